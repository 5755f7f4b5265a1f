// Drawing of a topology as SVG: cards in columns from the clients to the real
// servers, and the wires in the gutters between the columns.

package topology

import (
	"encoding/xml"
	"fmt"
	"strings"
)

// SVG draws s with its defaults as a scalable picture, in colours that suit a
// light or a dark page, whichever the viewer prefers. It shows what Draw shows;
// the nodes stand in columns by their distance from the clients. The same Spec
// gives the same bytes. A Spec that is not valid is drawn as far as it makes
// sense.
func (s Spec) SVG() string {
	s = s.WithDefaults()
	cards, wires := s.cards()
	p := newPlan(cards, wires, len(s.Links))
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" class="topology" role="img" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d">`+"\n", p.width, p.height)
	fmt.Fprintf(&b, "<title>%s</title>\n<style>%s</style>\n", escape("Topology "+s.Name), style)
	fmt.Fprintf(&b, `<rect class="page" width="%d" height="%d"/>`+"\n", p.width, p.height)
	for _, t := range p.trunks {
		t.drawBus(&b)
	}
	for _, t := range p.trunks {
		t.drawLines(&b)
	}
	for _, c := range p.boxes {
		c.draw(&b)
	}
	for _, t := range p.trunks {
		t.drawPorts(&b)
		t.drawTag(&b)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// style is scoped to the drawing, which may stand within an HTML page. Text is
// set in a font of fixed width, so that its length is known here.
const style = `
.topology { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace }
.topology .page { fill: #f6f7f9 }
.topology .box { fill: #ffffff; stroke: #c3c8d0 }
.topology .head { fill: #eceff3 }
.topology .name { font-weight: bold; font-size: 13px; fill: #1d2430 }
.topology text { fill: #2b3442 }
.topology .dim { fill: #697386 }
.topology .vip { font-weight: bold; fill: #9a5b00 }
.topology .wire { fill: none; stroke: #5b6678; stroke-width: 1.6 }
.topology .bus { stroke-width: 5; stroke-linecap: round }
.topology .halo { fill: none; stroke: #f6f7f9; stroke-width: 6 }
.topology .port { fill: #5b6678 }
.topology .tag { fill: #5b6678 }
.topology .tag-name { fill: #ffffff; font-weight: bold }
.topology .none { fill: #9aa3b2 }
.topology .client { fill: #3a7fc1 }
.topology .load-balancer { fill: #c77c22 }
.topology .real-server { fill: #3f9a62 }
.topology .router { fill: #7d6bb5 }
@media (prefers-color-scheme: dark) {
.topology .page { fill: #14181f }
.topology .box { fill: #1d232d; stroke: #3c4655 }
.topology .head { fill: #262e3a }
.topology .name { fill: #eef1f6 }
.topology text { fill: #d3d9e3 }
.topology .dim { fill: #8f9bae }
.topology .vip { fill: #e8ad55 }
.topology .wire { stroke: #97a3b6 }
.topology .halo { stroke: #14181f }
.topology .port, .topology .tag { fill: #97a3b6 }
.topology .tag-name { fill: #14181f }
}
`

func (c box) draw(b *strings.Builder) {
	class := "none"
	switch c.kind {
	case Client, LoadBalancer, RealServer, Router:
		class = string(c.kind)
	}
	fmt.Fprintf(b, `<g transform="translate(%d %d)"><title>%s</title>`, c.x, c.y, escape(c.title()))
	fmt.Fprintf(b, `<rect class="box" width="%d" height="%d" rx="4"/>`, c.width, c.height)
	fmt.Fprintf(b, `<path class="head" d="M1 4a3 3 0 0 1 3-3h%da3 3 0 0 1 3 3v%dh-%dz"/>`, c.width-8, headHeight-4, c.width-2)
	fmt.Fprintf(b, `<path class="%s" d="M4 0h2v%dh-2a4 4 0 0 1-4-4v-%da4 4 0 0 1 4-4z"/>`, class, c.height, c.height-8)
	fmt.Fprintf(b, `<text class="name" x="%d" y="19">%s</text>`, padding, escape(c.name))
	if words := c.kind.words(); words != "" && words != c.name {
		fmt.Fprintf(b, `<text class="dim" x="%d" y="19" text-anchor="end">%s</text>`, c.width-padding, escape(words))
	}
	for i, r := range c.lines {
		y := headHeight + i*rowHeight + 14
		if r.label != "" {
			fmt.Fprintf(b, `<text class="dim" x="%d" y="%d">%s</text>`, padding, y, escape(r.label))
		}
		text := strings.ReplaceAll(escape(r.text), vipMark, ` <tspan class="vip">VIP</tspan>`)
		fmt.Fprintf(b, `<text x="%d" y="%d">%s</text>`, c.textColumn, y, text)
		if r.right != "" {
			fmt.Fprintf(b, `<text class="dim" x="%d" y="%d" text-anchor="end">%s</text>`, c.width-padding, y, escape(r.right))
		}
	}
	b.WriteString("</g>\n")
}

// drawBus draws the trunk of a segment.
func (t *trunk) drawBus(b *strings.Builder) {
	if t.segment {
		top, bottom := t.span()
		fmt.Fprintf(b, `<path class="wire bus" d="M%d %dV%d"/>`+"\n", t.x, top-busEnd, bottom+busEnd)
	}
}

// drawLines draws a link, or the stubs of a segment, over a halo in the colour
// of the page: they pass over what was drawn before, and do not join it.
func (t *trunk) drawLines(b *strings.Builder) {
	title, halo, lines := "link", t.path(0), t.path(0)
	if t.segment {
		// At its own trunk a stub ends, and the halo must not cut that.
		title, halo = "segment "+t.name, t.path(busWidth)
	}
	fmt.Fprintf(b, `<g><title>%s</title><path class="halo" d="%s"/><path class="wire" d="%s"/></g>`+"\n", escape(title), halo, lines)
}

// drawTag draws the name of a segment.
func (t *trunk) drawTag(b *strings.Builder) {
	if t.segment {
		y, width := t.tag(t.tagBelow), t.tagWidth()
		fmt.Fprintf(b, `<rect class="tag" x="%d" y="%d" width="%d" height="%d" rx="9"/>`, t.x-width/2, y, width, tagHeight)
		fmt.Fprintf(b, `<text class="tag-name" x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", t.x, y+13, escape(t.name))
	}
}

// drawPorts draws a dot where the wire is plugged in.
func (t *trunk) drawPorts(b *strings.Builder) {
	for _, s := range t.stubs {
		fmt.Fprintf(b, `<circle class="port" cx="%d" cy="%d" r="3"/>`+"\n", t.port(s), s.y())
	}
}

// port is the x where a stub leaves its box.
func (t *trunk) port(s stub) int {
	if s.column == t.gutter {
		return s.x + s.width
	}
	return s.x
}

// path is the way from every port to short of the trunk; a link turns in round
// corners.
func (t *trunk) path(short int) string {
	if !t.segment && len(t.stubs) == 2 {
		a, b := t.stubs[0], t.stubs[1]
		return rounded(t.port(a), a.y(), t.x, t.port(b), b.y())
	}
	var b strings.Builder
	for _, s := range t.stubs {
		port := t.port(s)
		fmt.Fprintf(&b, "M%d %dH%d", port, s.y(), t.x+short*sign(port-t.x))
	}
	return b.String()
}

// rounded is the way from (x1, y1) along the vertical at x to (x2, y2).
func rounded(x1, y1, x, x2, y2 int) string {
	if y1 == y2 {
		return fmt.Sprintf("M%d %dH%dH%d", x1, y1, x, x2)
	}
	radius := min(6, abs(y2-y1)/2)
	in, down, out := radius*sign(x-x1), radius*sign(y2-y1), radius*sign(x2-x)
	return fmt.Sprintf("M%d %dH%dQ%d %d %d %dV%dQ%d %d %d %dH%d",
		x1, y1, x-in, x, y1, x, y1+down, y2-down, x, y2, x+out, y2, x2)
}

func abs(n int) int { return max(n, -n) }

func sign(n int) int {
	if n < 0 {
		return -1
	}
	return 1
}

// escape is text that can stand in an XML document, whatever it is.
func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder takes everything
	return b.String()
}
