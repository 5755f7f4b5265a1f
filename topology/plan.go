// Where everything stands in a drawing that is two-dimensional. Nodes and wires
// are the two sides of a graph; counted from the clients, a wire is an odd
// number of steps away and its nodes one step less or more. So every wire lies
// between two neighbouring columns of nodes, and none is longer than that.

package topology

import (
	"cmp"
	"slices"
)

// Measures of a drawing, in pixels.
const (
	rowHeight = 18
	// headHeight and footHeight are a multiple of a row together, and so are a
	// box and the gap below it.
	headHeight, footHeight, boxGap = 28, 8, 18
	padding, margin                = 14, 20
	// laneGap is between a wire and whatever is beside it. busWidth is that of
	// a segment, busEnd what it is longer than its ports need, and tagHeight
	// that of its name.
	laneGap, busWidth, busEnd, tagHeight = 22, 5, 10, 18
)

// boxText is where the text of a box is wrapped, in characters.
const boxText = 44

// pixels is the width of n characters of a font of fixed width at 12 px: 7.25
// each, which is a little more than such fonts take.
func pixels(n int) int { return (29*n + 3) / 4 }

// plan is a drawing with everything at its place.
type plan struct {
	boxes         []*box
	trunks        []*trunk
	width, height int
}

// box is a card with a place.
type box struct {
	card
	x, y, width, height int
	// textColumn is where texts begin, behind the labels.
	textColumn int
	column     int
}

// trunk is a wire with a place: a vertical at x, and a stub for each port.
type trunk struct {
	name    string
	segment bool
	stubs   []stub
	x       int
	// gutter is the column of boxes to its left.
	gutter int
	// tagBelow puts the name of a segment under it, not above.
	tagBelow bool
}

// stub is the horizontal part of a wire, from a row of a box to the trunk.
type stub struct {
	*box
	row int
}

// label is the name of the interface.
func (s stub) label() string { return s.lines[s.row].label }

// newPlan lays out cards and the wires between them, of which the first so many
// are links.
func newPlan(cards []card, wires []string, links int) *plan {
	p := &plan{}
	for i, name := range wires {
		p.trunks = append(p.trunks, &trunk{name: name, segment: i >= links, gutter: -1})
	}
	for _, c := range cards {
		b := &box{card: c, column: -1}
		b.lines = nil
		for _, l := range c.lines {
			if l.wire >= 0 {
				t := p.trunks[l.wire]
				t.stubs = append(t.stubs, stub{b, len(b.lines)})
			}
			texts := wrap(l.text, boxText-length(l.right))
			for i, text := range texts {
				if l.text = text; i > 0 {
					l = line{text: text, wire: -1}
				}
				b.lines = append(b.lines, l)
			}
		}
		b.measure()
		p.boxes = append(p.boxes, b)
	}
	p.trunks = slices.DeleteFunc(p.trunks, func(t *trunk) bool { return len(t.stubs) == 0 })
	p.assignColumns()
	columns, gutters := p.columns()
	for i := range columns {
		var before []*trunk
		if i > 0 {
			before = gutters[i-1]
		}
		stack(columns[i], before, i)
	}
	spread(columns, gutters)
	p.frame()
	return p
}

// measure sets the size of a box.
func (b *box) measure() {
	labels, texts := 0, 0
	for _, l := range b.lines {
		labels = max(labels, length(l.label)+2)
		used := length(l.text)
		if l.right != "" {
			used += 3 + length(l.right)
		}
		texts = max(texts, used)
	}
	b.textColumn = padding + pixels(labels)
	// The name is set a little larger.
	b.width = max(b.textColumn+pixels(texts), padding+pixels(length(b.title())+4)) + padding
	b.height = headHeight + len(b.lines)*rowHeight + footHeight
}

// assignColumns gives every box its column and every trunk its gutter by their
// distance from the clients, or from the first node of a part that has none.
func (p *plan) assignColumns() {
	at := map[*box][]*trunk{}
	var sources []*box
	for _, t := range p.trunks {
		for _, s := range t.stubs {
			at[s.box] = append(at[s.box], t)
		}
	}
	for _, b := range p.boxes {
		if b.kind == Client {
			sources = append(sources, b)
		}
	}
	visit := func(queue []*box) {
		for _, b := range queue {
			b.column = 0
		}
		for len(queue) > 0 {
			b := queue[0]
			queue = queue[1:]
			for _, t := range at[b] {
				if t.gutter >= 0 {
					continue
				}
				t.gutter = b.column
				for _, s := range t.stubs {
					if s.column < 0 {
						s.column = b.column + 1
						queue = append(queue, s.box)
					}
				}
			}
		}
	}
	visit(sources)
	for _, b := range p.boxes {
		if b.column < 0 {
			visit([]*box{b})
		}
	}
}

// columns are the boxes of each column, in the order of the Spec, and the
// trunks to the right of each.
func (p *plan) columns() ([][]*box, [][]*trunk) {
	n := 0
	for _, b := range p.boxes {
		n = max(n, b.column+1)
	}
	columns, gutters := make([][]*box, n), make([][]*trunk, n)
	for _, b := range p.boxes {
		columns[b.column] = append(columns[b.column], b)
	}
	for _, t := range p.trunks {
		gutters[t.gutter] = append(gutters[t.gutter], t)
	}
	return columns, gutters
}

// stack puts the boxes of column i one under the other, each as near as can be
// to what the trunks before the column join it to, and all such that most of
// these run straight. Every y is a multiple of the height of a row, so that two
// ports are level or clear of each other.
func stack(column []*box, before []*trunk, i int) {
	wanted := map[*box]mean{}
	for _, t := range before {
		y := t.level(i - 1).value()
		for _, s := range t.stubs {
			if s.column == i {
				wanted[s.box] = wanted[s.box].add(y)
			}
		}
	}
	slices.SortStableFunc(column, func(a, b *box) int { return cmp.Compare(wanted[a].value(), wanted[b].value()) })
	y := 0
	for _, b := range column {
		b.y = y
		y += b.height + boxGap
	}
	var off []int
	for _, t := range before {
		if to := t.level(i); to.n > 0 {
			off = append(off, t.level(i-1).value()-to.value())
		}
	}
	if len(off) == 0 {
		return
	}
	slices.Sort(off)
	shift := off[len(off)/2] / rowHeight * rowHeight
	for _, b := range column {
		b.y += shift
	}
}

// mean is the mean of n numbers.
type mean struct{ sum, n int }

func (m mean) add(v int) mean { return mean{m.sum + v, m.n + 1} }

// value is 0 for the mean of nothing.
func (m mean) value() int { return m.sum / max(1, m.n) }

// y is where a stub runs.
func (s stub) y() int { return s.box.y + headHeight + s.row*rowHeight + rowHeight/2 }

// level is the mean of the heights at which a trunk meets the boxes of a column.
func (t *trunk) level(column int) (m mean) {
	for _, s := range t.stubs {
		if s.column == column {
			m = m.add(s.y())
		}
	}
	return m
}

// span is how far the trunk reaches.
func (t *trunk) span() (top, bottom int) {
	top, bottom = t.stubs[0].y(), t.stubs[0].y()
	for _, s := range t.stubs {
		top, bottom = min(top, s.y()), max(bottom, s.y())
	}
	return top, bottom
}

// spread gives every column and every trunk its x, from the left.
func spread(columns [][]*box, gutters [][]*trunk) {
	x := 0
	for i, column := range columns {
		width := 0
		for _, b := range column {
			width = max(width, b.width)
		}
		for _, b := range column {
			b.x, b.width = x, width
		}
		x += width + laneGap
		trunks := gutters[i]
		if !crowded(trunks) {
			if untangle(trunks) && i+1 < len(columns) {
				// Ports on both sides are level, and one would be taken for
				// the other's continuation: half a row makes the difference.
				for _, b := range columns[i+1] {
					b.y += rowHeight / 2
				}
				untangle(trunks)
			}
			placeTags(trunks)
		}
		for _, t := range trunks {
			half := t.tagWidth() / 2
			t.x = x + half
			x = t.x + half + laneGap
		}
	}
}

// crowded tells whether a gutter is a tangle in any order: untangling takes
// time that grows with the square of its ports.
func crowded(trunks []*trunk) bool {
	n := 0
	for _, t := range trunks {
		n += len(t.stubs)
	}
	return n > 300
}

// placeTags puts the names of segments where no other wire crosses them.
func placeTags(trunks []*trunk) {
	for i, t := range trunks {
		t.tagBelow = crossed(trunks, i, t.tag(false)) && !crossed(trunks, i, t.tag(true))
	}
}

// tag is where the name of a segment begins: above the trunk or below it.
func (t *trunk) tag(below bool) int {
	top, bottom := t.span()
	if below {
		return bottom + busEnd
	}
	return top - busEnd - tagHeight
}

// crossed tells whether the stub of another trunk crosses the i-th where a tag
// at y is.
func crossed(trunks []*trunk, i, y int) bool {
	for j, t := range trunks {
		for _, s := range t.stubs {
			left := s.column == t.gutter
			if (j > i && left || j < i && !left) && s.y() > y-3 && s.y() < y+tagHeight+3 {
				return true
			}
		}
	}
	return false
}

// tagWidth is the width of a segment's name with its frame.
func (t *trunk) tagWidth() int {
	if !t.segment {
		return 0
	}
	return pixels(length(t.name)) + 14
}

// untangle orders the trunks of one gutter such that few lines cross. It tells
// whether some are drawn over each other all the same.
func untangle(trunks []*trunk) (overlap bool) {
	for range trunks {
		swapped := false
		for i := 1; i < len(trunks); i++ {
			if a, b := trunks[i-1], trunks[i]; crossings(b, a) < crossings(a, b) {
				trunks[i-1], trunks[i], swapped = b, a, true
			}
		}
		if !swapped {
			break
		}
	}
	for i, a := range trunks {
		for _, b := range trunks[i+1:] {
			overlap = overlap || crossings(a, b) >= overlapping
		}
	}
	return overlap
}

// overlapping counts as so many crossings.
const overlapping = 1 << 16

// crossings is how often the lines of trunk a cross those of b, to its right.
func crossings(a, b *trunk) int {
	n := 0
	top, bottom := b.span()
	for _, s := range a.stubs {
		if s.column != a.gutter && s.y() >= top && s.y() <= bottom {
			n++
		}
	}
	top, bottom = a.span()
	for _, s := range b.stubs {
		if s.column != b.gutter {
			continue
		}
		if s.y() >= top && s.y() <= bottom {
			n++
		}
		for _, r := range a.stubs {
			if r.column != a.gutter && r.y() == s.y() {
				n += overlapping
			}
		}
	}
	return n
}

// frame moves everything such that a margin is around it.
func (p *plan) frame() {
	top, right, bottom := 0, 0, 0
	for _, b := range p.boxes {
		top, right, bottom = min(top, b.y), max(right, b.x+b.width), max(bottom, b.y+b.height)
	}
	for _, t := range p.trunks {
		if high, low := t.span(); t.segment {
			top, bottom = min(top, high-busEnd, t.tag(t.tagBelow)), max(bottom, low+busEnd, t.tag(t.tagBelow)+tagHeight)
		}
		right = max(right, t.x+t.tagWidth()/2)
	}
	for _, b := range p.boxes {
		b.x, b.y = b.x+margin, b.y-top+margin
	}
	for _, t := range p.trunks {
		t.x += margin
	}
	p.width, p.height = right+2*margin, bottom-top+2*margin
}
