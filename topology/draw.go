// Drawing of a topology in text: one box for each node, one under the other,
// and the wires between their interfaces in lanes to the right.

package topology

import (
	"cmp"
	"fmt"
	"net/netip"
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
	spec  Spec
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
	d := &drawing{spec: s}
	ends := map[string][]row{}
	plug := func(w *wire, end, peer End) {
		right := fmt.Sprintf("mtu %d", end.MTU)
		if o := end.Offloads.String(); o != "" {
			right = o + ", " + right
		}
		ends[end.Node] = append(ends[end.Node], row{label: end.Name, text: d.addresses(end.Addresses), right: right, wire: w, peer: peer.Name + " of " + peer.Node})
	}
	for _, link := range s.Links {
		w := &wire{}
		d.wires = append(d.wires, w)
		plug(w, link.Ends[0], link.Ends[1])
		plug(w, link.Ends[1], link.Ends[0])
	}
	for _, segment := range s.Segments {
		w := &wire{name: segment.Name}
		d.wires = append(d.wires, w)
		for _, port := range segment.Ports {
			plug(w, port, End{})
		}
	}
	for _, n := range s.Nodes {
		d.box(n, ends[n.Name])
	}
	return d
}

// box adds the rows of one node.
func (d *drawing) box(n Node, ends []row) {
	title := n.Name
	if n.Kind != "" && string(n.Kind) != n.Name {
		title += ": " + strings.ReplaceAll(string(n.Kind), "-", " ")
	}
	d.rows = append(d.rows, row{top: true, text: title})
	for _, end := range ends {
		d.add(end)
	}
	if len(n.Loopback) > 0 {
		d.add(row{label: "lo", text: d.addresses(n.Loopback)})
	}
	for _, t := range n.Tunnels {
		right := string(t.Mode)
		if t.Remote.IsValid() {
			right += fmt.Sprintf(" to %v", t.Remote)
		}
		if t.MTU != 0 {
			right += fmt.Sprintf(", mtu %d", t.MTU)
		}
		d.add(row{label: t.Name, text: d.addresses(t.Addresses), right: right})
	}
	for _, s := range n.Services {
		service := fmt.Sprintf("%v %s, %s", netip.AddrPortFrom(s.Address, s.Port), s.Protocol, s.Scheduler)
		if s.Persistence != 0 {
			service += fmt.Sprintf(", persistent %s", duration(s.Persistence))
		}
		d.add(row{label: "service", text: service})
		for _, r := range s.RealServers {
			d.add(row{text: "→ " + d.realServer(r, s.Port)})
		}
	}
	for _, r := range n.Routes {
		d.add(row{label: "route", text: r.String()})
	}
	if c := n.Sidecar; c != nil {
		d.add(row{label: "sidecar", text: fmt.Sprintf(":%d, uid %d", c.Port, c.UID)})
	}
	d.rows = append(d.rows, row{bottom: true})
}

// add adds a row of a box, with further rows for what does not fit in one.
func (d *drawing) add(r row) {
	d.labels = max(d.labels, length(r.label))
	lines := wrap(r.text, textWidth-length(r.right)-2)
	r.text = lines[0]
	d.rows = append(d.rows, r)
	for _, line := range lines[1:] {
		d.rows = append(d.rows, row{text: line})
	}
}

// addresses lists addresses and marks those that are a VIP of some service.
func (d *drawing) addresses(prefixes []netip.Prefix) string {
	words := make([]string, len(prefixes))
	for i, p := range prefixes {
		words[i] = p.String()
		if d.spec.isVIP(p.Addr()) {
			// A no-break space keeps the mark with its address.
			words[i] += "\u00a0VIP"
		}
	}
	return strings.Join(words, " ")
}

func (s Spec) isVIP(addr netip.Addr) bool {
	return slices.ContainsFunc(s.Nodes, func(n Node) bool {
		return slices.ContainsFunc(n.Services, func(v VirtualService) bool { return v.Address == addr })
	})
}

func (d *drawing) realServer(r RealServerEntry, port uint16) string {
	words := []string{r.Address.String()}
	if r.Port != port {
		words[0] = netip.AddrPortFrom(r.Address, r.Port).String()
	}
	words = append(words, "by", string(r.Forwarding))
	if r.Forwarding == Tunneling {
		words = append(words, "(IPIP)")
	}
	if r.Weight != nil && *r.Weight != 1 {
		words = append(words, fmt.Sprintf("weight %d", *r.Weight))
	}
	return strings.Join(words, " ")
}

// String is the route in the words of ip-route(8).
func (r Route) String() string {
	words := []string{r.To.String()}
	add := func(set bool, format string, a ...any) {
		if set {
			words = append(words, fmt.Sprintf(format, a...))
		}
	}
	add(r.Via.IsValid(), "via %v", r.Via)
	add(r.Dev != "", "dev %s", r.Dev)
	add(r.Src.IsValid(), "src %v", r.Src)
	add(r.Priority != 0, "metric %d", r.Priority)
	add(r.Table != 0 && r.Table != MainTable, "table %d", r.Table)
	add(r.MTU != 0 && r.MTULock, "mtu lock %d", r.MTU)
	add(r.MTU != 0 && !r.MTULock, "mtu %d", r.MTU)
	add(r.AdvMSS != 0, "advmss %d", r.AdvMSS)
	add(r.RTOMin != 0, "rto_min %s", duration(r.RTOMin))
	add(r.RTT != 0, "rtt %s", duration(r.RTT))
	add(r.Quickack, "quickack 1")
	add(r.InitCwnd != 0, "initcwnd %d", r.InitCwnd)
	add(r.InitRwnd != 0, "initrwnd %d", r.InitRwnd)
	add(r.Window != 0, "window %d", r.Window)
	return strings.Join(words, " ")
}

// String lists the offloads that are on, in the words of ethtool -K.
func (o Offloads) String() string {
	var words []string
	for _, offload := range []struct {
		on   bool
		name string
	}{{o.TSO, "tso"}, {o.GSO, "gso"}, {o.GRO, "gro"}, {o.TxChecksum, "tx"}} {
		if offload.on {
			words = append(words, offload.name)
		}
	}
	return strings.Join(words, " ")
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
