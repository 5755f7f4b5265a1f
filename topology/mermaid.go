// Drawing of a topology in Mermaid, which Markdown viewers render.

package topology

import (
	"fmt"
	"strings"
	"unicode"
)

// Mermaid draws s with its defaults as a Mermaid flowchart: a box for each node
// with what Draw shows of it, a rounded one for each segment, and an edge for
// each interface. It runs from the clients to the right, as SVG does. A Spec
// that is not valid is drawn as far as it makes sense.
func (s Spec) Mermaid() string {
	s = s.WithDefaults()
	cards, wires := s.cards()
	p := newPlan(cards, wires, len(s.Links))
	var b strings.Builder
	// Lines are as long as they are; Mermaid would break them at 200 pixels.
	b.WriteString("%%{init: {\"flowchart\": {\"wrappingWidth\": 800}}}%%\nflowchart LR\n")
	ids := map[*box]string{}
	for i, c := range cards {
		id := fmt.Sprintf("node%d", i)
		ids[p.boxes[i]] = id
		text := []string{"<b>" + mermaidText(c.title()) + "</b>"}
		for _, l := range c.lines {
			text = append(text, mermaidText(l.inOne()))
		}
		fmt.Fprintf(&b, "  %s[\"%s\"]\n", id, strings.Join(text, "<br>"))
	}
	for i, t := range p.trunks {
		if !t.segment {
			if len(t.stubs) == 2 {
				from, to := t.stubs[0], t.stubs[1]
				if from.column > to.column {
					from, to = to, from
				}
				fmt.Fprintf(&b, "  %s ---|\"%s – %s\"| %s\n", ids[from.box], mermaidText(from.label()), mermaidText(to.label()), ids[to.box])
			}
			continue
		}
		id := fmt.Sprintf("segment%d", i)
		fmt.Fprintf(&b, "  %s([\"%s\"])\n", id, mermaidText(t.name))
		for _, s := range t.stubs {
			from, to := ids[s.box], id
			if s.column != t.gutter {
				from, to = to, from
			}
			fmt.Fprintf(&b, "  %s ---|\"%s\"| %s\n", from, mermaidText(s.label()), to)
		}
	}
	return b.String()
}

// inOne is a line of a card as one text.
func (l line) inOne() string {
	text := strings.TrimSpace(l.label + " " + l.text)
	if l.right != "" {
		text += ", " + l.right
	}
	return text
}

// mermaidText is text within quotes, as Mermaid's entity codes keep it.
func mermaidText(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.IsSpace(r) {
			return ' '
		}
		return r
	}, text)
	return strings.NewReplacer("#", "#35;", `"`, "#quot;", "<", "#lt;", ">", "#gt;", "&", "#amp;", "`", "#96;").Replace(text)
}
