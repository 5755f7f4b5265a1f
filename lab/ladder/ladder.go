// Package ladder lays one request out as a picture: a lane for each place where
// its packets were seen, time running down, a row for each packet with the way
// that it took, and the waits between them. It is pure: it places what was
// recorded, and draws nothing itself.
package ladder

import (
	"math"
	"slices"

	"github.com/pmtulab/pmtulab/lab/diagnosis"
	"github.com/pmtulab/pmtulab/lab/record"
)

// Ladder is one request as a picture. Lengths are pixels downwards and shares of
// the width across, so that it fits any width without scaling its text.
type Ladder struct {
	// Height is that of the picture in pixels.
	Height float64
	// Lanes go from left to right; the client's come first.
	Lanes []Lane
	// Client is the client's name, Left, Middle and Right say where its lanes are.
	Client              string
	Left, Middle, Right Percent
	// Socket is the lane of the socket of the wire leg, Beyond half-way from
	// it to the next.
	Socket, Beyond Percent
	// Rows go downwards in the order of time.
	Rows []Row
	// Gaps are where the time axis is broken.
	Gaps []Gap
	// Samples are those of the socket.
	Samples []Sample
	// Stall is nil when the request did not stall.
	Stall *Stall
	// More counts the packets that there was no room for.
	More int
}

// Kind says how a row looks.
type Kind string

// What rows show.
const (
	Write   Kind = "write"   // the application writes the request
	Data    Kind = "data"    // bytes of the request
	Again   Kind = "again"   // bytes of the request that had left before
	Reply   Kind = "reply"   // what comes back: ACKs and the response
	ICMP    Kind = "icmp"    // an ICMP
	Refused Kind = "refused" // an ICMP of the client's own kernel
	Done    Kind = "done"    // the application has the response
	Failed  Kind = "failed"  // the application gives up
)

// Row is one packet, or what the application did.
type Row struct {
	Y float64
	// At counts from the write.
	At record.Ms
	// ID is that of the event that first saw the packet; empty for what the
	// application did.
	ID   string
	Kind Kind
	// Label is for the picture; Title tells all sightings, one a line.
	Label, Title string
	// From and To are the ends of the packet's way, Left the smaller.
	From, To, Left Percent
	// Stops are the lanes where it was seen, the one of the arrow's head left
	// out.
	Stops []Percent
	// Lost tells that it was not seen where it should have come next: after
	// it had left an interface, or beyond a node that passes such packets on.
	Lost bool
}

// Moves tells that the row is a packet that was on its way.
func (r Row) Moves() bool { return r.From != r.To }

// Bottom is where the lanes end.
func (l Ladder) Bottom() float64 { return l.Height - footHeight/2 }

// Gap is a stretch of time in which no packet of the request was seen.
type Gap struct {
	// Top and Height are where the lanes are broken.
	Top, Height float64
	// X is left of its text.
	X  Percent
	Ms record.Ms
	// Wait is what the request waited for, when the gap ends with it; Waited
	// tells that the gap is within a wait.
	Wait   *record.Wait
	Waited bool
	// Timer is the first sample of the socket in the gap with a timer armed,
	// First and Last the first and the last sample, nil when there was none.
	Timer, First, Last *record.Event
	// Count is how many samples there were.
	Count int
}

// Y is the middle of g.
func (g Gap) Y() float64 { return g.Top + g.Height/2 }

// Sample is one sample of the socket.
type Sample struct {
	Event record.Event
	Y     float64
	// To is the end of a mark that starts at the socket's lane. It is as long
	// as the time left on the timer, when the sample shows the stall.
	To Percent
	// Stalled is as in diagnosis.Stalled.
	Stalled bool
}

// Stall is the time from the write to the first packet on the wire.
type Stall struct {
	record.Stall
	From, To float64
}

const (
	// headHeight is the room for the names of the lanes, down to the write.
	headHeight = 64.0
	// footHeight is the room below the last row.
	footHeight = 20.0
	// mostRows and mostEvents bound the picture of one request.
	mostRows, mostEvents = 120, 4000
	// waitHeight and quietHeight are those of gaps: with a wait to show in it,
	// and without.
	waitHeight, quietHeight = 96.0, 64.0
	// denser is how close two samples may be drawn, in pixels.
	denser = 1.4
)

// Draw lays out the request q of r.
func Draw(r record.Result, q record.Request) Ladder {
	packets, samples := eventsOf(r, q)
	client := clientOf(q, r.Timeline)
	l := layLanes(q, client, packets)
	d := &drawing{
		Ladder: Ladder{Lanes: l.list, Client: short(client, mostLetters), Left: l.list[0].X, Right: l.list[0].X, Socket: l.list[l.socket].X},
		lanes:  l, request: q, sampled: samples, words: newWords(q), forwards: forwarders(r, q, client), waits: map[string]record.Wait{},
	}
	for _, s := range r.Stalls {
		if s.Request == q.Name {
			d.stall(s)
		}
	}
	for _, lane := range l.list {
		if lane.Node == client {
			d.Right = max(d.Right, lane.X)
		}
	}
	d.Middle, d.Beyond = (d.Left+d.Right)/2, d.Socket+l.step()/2
	d.rows(packets)
	d.samples()
	for _, s := range d.stalls {
		// A nanosecond on, it is past the break of the axis that it ends.
		d.Stall = &Stall{s, d.axis.pixels(q.Wrote), d.axis.pixels(q.Wrote + s.Duration + 1e-6)}
	}
	d.Height = d.axis.y[len(d.axis.y)-1] + footHeight
	return d.Ladder
}

// drawing is a Ladder in the making.
type drawing struct {
	Ladder
	lanes   *lanes
	axis    axis
	request record.Request
	words   words
	// sampled are the samples of the socket, forwards the nodes that pass
	// packets of the client on.
	sampled  []record.Event
	forwards map[string]bool
	// stalls are those of the request, waits their waits by the id of the
	// event that ended each.
	stalls []record.Stall
	waits  map[string]record.Wait
}

// eventsOf are the packets of both legs of q and the samples of its wire leg,
// from its write to its end.
func eventsOf(r record.Result, q record.Request) (packets, samples []record.Event) {
	wire := q.Connection.Wire()
	from, to := q.Wrote-r.Figures.Alignment, q.Ended
	if to == 0 { // it never ended
		to = record.Ms(math.Inf(1))
	}
	for _, e := range r.Timeline {
		p := e.Packet
		switch {
		case e.At < from || e.At > to+transit:
		case e.Socket != nil && e.Socket.Local == wire.Local && e.At <= to:
			samples = append(samples, e)
		case p != nil && len(packets) < mostEvents && (e.Connection == q.Connection.Name ||
			p.Fragment && p.Source == wire.Local.Addr() && p.Destination == wire.Remote.Addr()):
			packets = append(packets, e)
		}
	}
	return packets, samples
}

// forwarders are the nodes that passed packets of the client on. What ends in
// one of them did not get through.
func forwarders(r record.Result, q record.Request, client string) map[string]bool {
	found := map[string]bool{}
	for _, e := range r.Timeline {
		if e.Packet != nil && e.Packet.Out && e.Node != client && innermost(e.Packet).Source == q.Connection.Wire().Local.Addr() {
			found[e.Node] = true
		}
	}
	return found
}

// stall notes a stall of the request and its waits.
func (d *drawing) stall(s record.Stall) {
	d.stalls = append(d.stalls, s)
	for _, w := range s.Waits {
		if n := len(w.Evidence); n > 0 && w.Kind != record.WaitRTT {
			d.waits[w.Evidence[n-1]] = w
		}
	}
}

// rows lays out the write, each packet, and the end.
func (d *drawing) rows(packets []record.Event) {
	q := d.request
	app := d.Lanes[d.lanes.app].X
	own := func(kind Kind, label string) Row { return Row{Kind: kind, Label: label, From: app, To: app, Left: app} }
	d.add(own(Write, d.words.write()), q.Wrote, nil)
	for _, j := range journeys(packets) {
		switch at := j[0].At; {
		case q.Ended > 0 && at > q.Ended: // it belongs to the next request
		case len(d.Rows) > mostRows:
			d.More++
		default:
			d.add(d.row(j), at, j)
		}
	}
	switch {
	case q.Status != 0:
		d.add(own(Done, d.words.end()), q.Ended, nil)
	case q.Ended > 0:
		d.add(own(Failed, d.words.end()), q.Ended, nil)
	}
}

// row lays out one packet.
func (d *drawing) row(j journey) Row {
	first, last := j[0], j[len(j)-1]
	row := Row{ID: first.ID, Title: title(j)}
	row.Kind, row.Label = d.words.packet(first)
	for _, e := range j {
		row.Stops = append(row.Stops, d.lanes.x(e))
	}
	row.Stops = slices.Compact(row.Stops)
	row.From, row.To = row.Stops[0], row.Stops[len(row.Stops)-1]
	outbound := d.words.leaves(innermost(first.Packet))
	onward := d.lanes.step() / 2
	if !outbound {
		onward = -onward
	}
	switch app := d.Lanes[d.lanes.app].X; {
	case d.words.local(first) && outbound:
		row.From, row.To = app, d.Socket
	case d.words.local(first):
		row.From, row.To = d.Socket, app
	case outbound && first.Node == d.lanes.client:
		row.From = d.Socket
	case !outbound && last.Node == d.lanes.client && !last.Packet.Out:
		row.To = d.Socket
	}
	if row.Lost = !d.words.local(first) && d.lost(last, outbound); !row.Lost {
		row.Stops = slices.DeleteFunc(row.Stops, func(x Percent) bool { return x == row.To })
	} else if last.Packet.Out {
		row.To += onward
	}
	row.Left = min(row.From, row.To)
	return row
}

// lost tells whether a packet that was last seen as e did not get through.
func (d *drawing) lost(e record.Event, outbound bool) bool {
	if len(d.forwards) == 0 { // the other nodes were not watched
		return false
	}
	return e.Packet.Out || outbound && d.forwards[e.Node]
}

// add puts a row below the others, and a gap above it when there was one.
func (d *drawing) add(row Row, at record.Ms, j journey) {
	if len(d.Rows) > 0 && at-d.axis.last() >= broken {
		d.gap(at, j)
	}
	row.At, row.Y = max(0, at-d.request.Wrote), d.axis.add(at)
	d.Rows = append(d.Rows, row)
}

// gap breaks the axis until j was seen.
func (d *drawing) gap(until record.Ms, j journey) {
	since := d.axis.last()
	g := Gap{Ms: until - since, X: d.Socket + d.lanes.step(), Waited: d.stalled(since, until), Height: quietHeight}
	for _, e := range j {
		if w, ok := d.waits[e.ID]; ok {
			g.Wait, g.Waited = &w, true
		}
	}
	for _, e := range d.sampled {
		if e.At < since || e.At > until {
			continue
		}
		if g.First == nil {
			g.First = &e
		}
		if g.Timer == nil && e.Socket.Timer != record.TimerNone {
			g.Timer = &e
		}
		g.Last = &e
		g.Count++
	}
	if g.Wait != nil && g.Timer != nil {
		g.Height = waitHeight
	}
	g.Top = d.axis.pause(until, g.Height)
	d.Gaps = append(d.Gaps, g)
}

// stalled tells whether the request was in a stall all the time.
func (d *drawing) stalled(from, to record.Ms) bool {
	return slices.ContainsFunc(d.stalls, func(s record.Stall) bool { return from >= d.request.Wrote && to <= d.request.Wrote+s.Duration })
}

// samples marks the samples of the socket, as densely as they can be seen.
func (d *drawing) samples() {
	most := record.Ms(1)
	for _, e := range d.sampled {
		if diagnosis.Stalled(e.Socket) {
			most = max(most, e.Socket.Expires)
		}
	}
	for _, e := range d.sampled {
		mark := Sample{Event: e, Y: d.axis.pixels(e.At), To: d.Socket + 1, Stalled: diagnosis.Stalled(e.Socket)}
		if mark.Stalled {
			mark.To += (d.lanes.step() - 3) * Percent(max(0, e.Socket.Expires)/most)
		}
		if n := len(d.Samples); n == 0 || mark.Y-d.Samples[n-1].Y >= denser {
			d.Samples = append(d.Samples, mark)
		}
	}
}
