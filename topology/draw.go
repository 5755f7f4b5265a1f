// Drawing of a topology in text: one box for each node, one under the other,
// and the wires between their interfaces in lanes to the right.

package topology

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// drawWidth is how wide a drawing may be, in columns.
	drawWidth = 100
	// textWidth is where the text of a box is wrapped.
	textWidth = 62
)

// Draw draws s with its defaults, in lines of at most 100 columns. Each node is
// a box with its interfaces, addresses, MTUs, virtual services, routes and
// sidecar; each segment is a line that its ports join, named where it starts; a
// line without a name is a link. Sysctls are not drawn. A Spec that is not
// valid is drawn as far as it makes sense.
func (s Spec) Draw() []string {
	d := newDrawing(s.WithDefaults())
	d.layLanes()
	return d.render()
}

// drawing is the rows of all boxes and the wires that join some of them.
type drawing struct {
	rows  []row
	wires []*wire
	lanes []lane
	// width of the boxes, borders included, and of the labels within.
	width, labels int
}

// row is one line of a box.
type row struct {
	// top and bottom tell the borders; the text of top is the node's title.
	top, bottom        bool
	label, text, right string
	// wire leaves the row to the right, when it is not nil.
	wire *wire
	// peer is the other end of a link.
	peer string
}

// wire is a link or a segment.
type wire struct {
	// name is empty for a link.
	name string
	// first and last are the rows that it joins.
	first, last int
	// lane is -1 when there is no room.
	lane int
}

// lane is a column in which one wire runs at a time.
type lane struct {
	// column of the line, and the width of the widest name above it.
	column, width int
	wires         []*wire
}

func newDrawing(s Spec) *drawing {
	d := &drawing{}
	cards, wires := s.cards()
	for _, name := range wires {
		d.wires = append(d.wires, &wire{name: name})
	}
	for _, c := range cards {
		d.rows = append(d.rows, row{top: true, text: c.title()})
		for _, l := range c.lines {
			d.add(l)
		}
		d.rows = append(d.rows, row{bottom: true})
	}
	return d
}

// add adds a row of a box, with further rows for what does not fit in one.
func (d *drawing) add(l line) {
	d.labels = max(d.labels, length(l.label))
	lines := wrap(l.text, textWidth-length(l.right)-2)
	r := row{label: l.label, text: lines[0], right: l.right, peer: l.peer}
	if l.wire >= 0 {
		r.wire = d.wires[l.wire]
	}
	d.rows = append(d.rows, r)
	for _, line := range lines[1:] {
		d.rows = append(d.rows, row{text: line})
	}
}

// layLanes gives every wire a lane, the first that is free over its rows and
// the row above, where its name stands. When there is no room for all, none
// gets one, and the ports are named instead.
func (d *drawing) layLanes() {
	for _, w := range d.wires {
		w.first, w.last, w.lane = -1, -1, -1
	}
	for i, r := range d.rows {
		d.width = max(d.width, d.rowWidth(r))
		if r.wire == nil {
			continue
		}
		if r.wire.first < 0 {
			r.wire.first = i
		}
		r.wire.last = i
	}
	d.width = min(d.width, drawWidth)
	wires := slices.DeleteFunc(slices.Clone(d.wires), func(w *wire) bool { return w.first < 0 })
	slices.SortStableFunc(wires, func(a, b *wire) int { return a.first - b.first })
	crowded := false
	for _, w := range wires {
		i := slices.IndexFunc(d.lanes, func(l lane) bool { return l.wires[len(l.wires)-1].last < w.first-1 })
		if i < 0 {
			i = len(d.lanes)
			d.lanes = append(d.lanes, lane{})
		}
		w.lane = i
		d.lanes[i].wires = append(d.lanes[i].wires, w)
		d.lanes[i].width = max(d.lanes[i].width, length(w.name))
	}
	// Each lane is as far from the last as that one's names need.
	column := d.width + 2
	for i := range d.lanes {
		l := &d.lanes[i]
		crowded = crowded || column+max(l.width, 1) > drawWidth
		l.column = column
		column += max(l.width+1, 3)
	}
	if crowded {
		d.lanes = nil
		for _, w := range d.wires {
			w.lane = -1
		}
	}
}

func (d *drawing) rowWidth(r row) int {
	switch {
	case r.top:
		return length(r.text) + 6
	case r.bottom:
		return 0
	}
	width := d.labels + 2 + length(r.text) + 4
	if r.right != "" {
		width += length(r.right) + 2
	}
	return width
}

// render draws rows and lanes on a canvas of characters.
func (d *drawing) render() []string {
	lines := make([]string, len(d.rows))
	for i, r := range d.rows {
		line := []rune(strings.Repeat(" ", drawWidth))
		put := func(column int, text string) {
			for _, char := range text {
				if column < len(line) {
					line[column] = char
				}
				column++
			}
		}
		put(0, d.boxLine(r))
		for _, l := range d.lanes {
			for _, w := range l.wires {
				switch {
				case i == w.first-1:
					put(l.column, w.name)
				case i >= w.first && i <= w.last:
					put(l.column, "│")
				}
			}
		}
		if w := r.wire; w != nil && w.lane >= 0 {
			d.join(line, i, w)
		} else if w != nil {
			put(d.width, "── "+cmp.Or(w.name, r.peer))
		}
		lines[i] = strings.ReplaceAll(strings.TrimRight(string(line), " "), "\u00a0", " ")
	}
	return lines
}

// join draws the way from a box to the lane of its wire, across other lanes.
func (d *drawing) join(line []rune, i int, w *wire) {
	end := d.lanes[w.lane].column
	for column := d.width; column < end; column++ {
		if line[column] == '│' {
			line[column] = '┼'
		} else {
			line[column] = '─'
		}
	}
	switch {
	case w.first == w.last:
		line[end] = '╴'
	case i == w.first:
		line[end] = '┐'
	case i == w.last:
		line[end] = '┘'
	default:
		line[end] = '┤'
	}
}

// boxLine is the row within its box.
func (d *drawing) boxLine(r row) string {
	inside := d.width - 2
	switch {
	case r.top:
		title := "─ " + cut(r.text, inside-4) + " "
		return "┌" + title + strings.Repeat("─", inside-length(title)) + "┐"
	case r.bottom:
		return "└" + strings.Repeat("─", inside) + "┘"
	}
	text := cut(fmt.Sprintf("%-*s  %s", d.labels, r.label, r.text), inside-2)
	gap := max(0, inside-2-length(text)-length(r.right))
	edge := "│"
	if r.wire != nil {
		edge = "├"
	}
	return "│ " + cut(text+strings.Repeat(" ", gap)+r.right, inside-2) + " " + edge
}

// length is the number of characters of text.
func length(text string) int { return utf8.RuneCountInString(text) }

// cut shortens text to width characters.
func cut(text string, width int) string {
	runes := []rune(text)
	if len(runes) <= width {
		return text
	}
	return string(runes[:max(0, width-1)]) + "…"
}

// wrap breaks text at spaces into lines of at most width characters, longer
// words excepted. There is at least one line.
func wrap(text string, width int) []string {
	lines := []string{""}
	for word := range strings.SplitSeq(text, " ") {
		last := &lines[len(lines)-1]
		switch {
		case *last == "":
			*last = word
		case length(*last)+1+length(word) <= width:
			*last += " " + word
		default:
			lines = append(lines, word)
		}
	}
	return lines
}
