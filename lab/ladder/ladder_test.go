package ladder

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pmtulab/pmtulab/lab/record"
)

var update = flag.Bool("update", false, "write the golden files")

// recorded reads a run that was recorded, with few of its events.
func recorded(t *testing.T, name string) record.Result {
	t.Helper()
	r, err := record.ReadFile(filepath.Join("..", "report", "testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// write tells l in text, one mark a line.
func write(w *bytes.Buffer, name string, l Ladder) {
	fmt.Fprintf(w, "request %s, %.0f px, client %s\n", name, l.Height, l.Client)
	for _, lane := range l.Lanes {
		fmt.Fprintf(w, "  lane %s %s\n", lane.X, lane.Label)
	}
	for _, r := range l.Rows {
		lost := ""
		if r.Lost {
			lost = ", lost"
		}
		fmt.Fprintf(w, "  %6.1f %+9.3f %-8s %-5s %s → %s by %v%s: %s\n", r.Y, float64(r.At), r.Kind, r.ID, r.From, r.To, r.Stops, lost, r.Label)
	}
	for _, g := range l.Gaps {
		fmt.Fprintf(w, "  gap at %.1f, %.0f px for %.3f ms, waited %v, %d samples", g.Top, g.Height, float64(g.Ms), g.Waited, g.Count)
		if g.Wait != nil {
			fmt.Fprintf(w, ", wait %s", g.Wait.Kind)
		}
		if g.Timer != nil {
			fmt.Fprintf(w, ", timer %s", g.Timer.ID)
		}
		fmt.Fprintln(w)
	}
	for _, s := range l.Samples {
		fmt.Fprintf(w, "  sample %s at %.1f to %s, stalled %v\n", s.Event.ID, s.Y, s.To, s.Stalled)
	}
	if s := l.Stall; s != nil {
		fmt.Fprintf(w, "  stall from %.1f to %.1f\n", s.From, s.To)
	}
}

func TestRecorded(t *testing.T) {
	for _, name := range []string{"report", "whole", "question-4", "black-hole"} {
		r := recorded(t, name)
		var got bytes.Buffer
		for _, q := range r.Requests {
			l := Draw(r, q)
			write(&got, q.Name, l)
			check(t, l)
		}
		file := filepath.Join("testdata", name+".txt")
		if *update {
			if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}

// check looks at what holds for every picture.
func check(t *testing.T, l Ladder) {
	t.Helper()
	for i, r := range l.Rows {
		if i > 0 && r.Y < l.Rows[i-1].Y+rowHeight {
			t.Errorf("row %d (%s) is at %.1f, too close to %.1f", i, r.Label, r.Y, l.Rows[i-1].Y)
		}
		for _, x := range append([]Percent{r.From, r.To, r.Left}, r.Stops...) {
			if x < firstLane || x > 100 {
				t.Errorf("row %d (%s) reaches %s", i, r.Label, x)
			}
		}
		if r.Y > l.Bottom() {
			t.Errorf("row %d (%s) is at %.1f, below the bottom %.1f", i, r.Label, r.Y, l.Bottom())
		}
	}
	for _, g := range l.Gaps {
		for _, r := range l.Rows {
			if r.Y > g.Top-belowRow && r.Y < g.Top+g.Height {
				t.Errorf("the row at %.1f (%s) is in the gap at %.1f", r.Y, r.Label, g.Top)
			}
		}
	}
	for _, s := range l.Samples {
		if s.Y > l.Bottom() || s.To > 100 {
			t.Errorf("sample %s is at %.1f, %s", s.Event.ID, s.Y, s.To)
		}
	}
}

// The picture of the field report's request B: the wait is told at the break
// that the first packet ends, and the bar ends with that packet.
func TestStall(t *testing.T) {
	r := recorded(t, "whole")
	l := Draw(r, r.Requests[1])
	i := slices.IndexFunc(l.Rows, func(r Row) bool { return r.ID == "P132" })
	if i < 0 || len(l.Gaps) != 1 || l.Stall == nil {
		t.Fatalf("%d gaps, stall %v, row %d", len(l.Gaps), l.Stall, i)
	}
	if g := l.Gaps[0]; g.Wait == nil || g.Wait.Kind != record.WaitProbe0 || g.Timer == nil || g.Timer.ID != "S4" {
		t.Errorf("the gap tells %+v", g)
	}
	if l.Stall.From != l.Rows[0].Y || l.Stall.To < l.Rows[i].Y || l.Stall.To > l.Rows[i].Y+1 {
		t.Errorf("the stall is from %.1f to %.1f, the rows are at %.1f and %.1f", l.Stall.From, l.Stall.To, l.Rows[0].Y, l.Rows[i].Y)
	}
	if kind := l.Rows[i-1].Kind; kind != Refused {
		t.Errorf("before the wait there is a row of kind %s", kind)
	}
}

var (
	local  = netip.MustParseAddrPort("10.0.0.1:40000")
	remote = netip.MustParseAddrPort("10.0.0.2:443")
)

// trace writes events by hand.
type trace struct{ record.Result }

func newTrace() *trace {
	t := &trace{}
	t.Requests = []record.Request{{
		Name: "A", Connection: record.Connection{Name: "A", App: record.Leg{Local: local, Remote: remote}},
		Bytes: 100, Wrote: 100, Ended: 150, Status: 200, Latency: 50,
	}}
	return t
}

func (t *trace) add(at record.Ms, node, device string, out bool, p record.Packet) *trace {
	p.Out = out
	t.Timeline = append(t.Timeline, record.Event{
		ID: fmt.Sprintf("P%d", len(t.Timeline)+1), At: at, Node: node, Interface: device, Connection: "A", Leg: record.AppLeg, Packet: &p,
	})
	return t
}

func (t *trace) draw() Ladder { return Draw(t.Result, t.Requests[0]) }

func data(seq uint32, n int) record.Packet {
	return record.Packet{
		Source: local.Addr(), Destination: remote.Addr(), Length: 52 + n, Protocol: 6,
		TCP: &record.TCP{SourcePort: local.Port(), DestinationPort: remote.Port(), Seq: seq, Ack: 1, Payload: n, Flags: "P."},
	}
}

func reply(flags string, ack uint32, n int) record.Packet {
	return record.Packet{
		Source: remote.Addr(), Destination: local.Addr(), Length: 52 + n, Protocol: 6,
		TCP: &record.TCP{SourcePort: remote.Port(), DestinationPort: local.Port(), Seq: 1, Ack: ack, Payload: n, Flags: flags},
	}
}

func inTunnel(p record.Packet) record.Packet {
	return record.Packet{Source: netip.MustParseAddr("10.0.0.5"), Destination: netip.MustParseAddr("10.0.0.6"), Length: p.Length + 20, Protocol: 4, Inner: &p}
}

// A packet that is lost behind the load balancer, and its twin that is not.
func TestJourneys(t *testing.T) {
	l := newTrace().
		add(100.1, "client", "eth0", true, data(7, 100)).
		add(100.2, "lb", "eth0", false, data(7, 100)).
		add(100.3, "lb", "eth0", true, inTunnel(data(7, 100))).
		add(130.1, "client", "eth0", true, data(7, 100)).
		add(130.2, "lb", "eth0", false, data(7, 100)).
		add(130.3, "lb", "eth0", true, inTunnel(data(7, 100))).
		add(130.4, "real", "eth0", false, inTunnel(data(7, 100))).
		add(130.5, "real", "eth0", true, reply(".", 107, 0)).
		add(130.6, "real", "eth0", true, reply(".", 107, 0)).
		add(130.7, "client", "eth0", false, reply(".", 107, 0)).
		add(131.0, "lb", "eth0", false, data(107, 1)).
		draw()
	check(t, l)
	type row struct {
		Kind  Kind
		ID    string
		Label string
		Lost  bool
		Stops int
	}
	var got []row
	for _, r := range l.Rows {
		got = append(got, row{r.Kind, r.ID, r.Label, r.Lost, len(r.Stops)})
	}
	want := []row{
		{Write, "", "writes 100 bytes", false, 0},
		{Data, "P1", "152 B, 0–100", true, 2},
		{Again, "P4", "152 B, 0–100, again", false, 2},
		{Reply, "P8", "ACK 100", false, 2},
		{Reply, "P9", "ACK 100", true, 1},       // one of two that are alike
		{Data, "P11", "53 B, 100–101", true, 1}, // seen by the load balancer alone
		{Done, "", "has the response, status 200", false, 0},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if title := l.Rows[1].Title; !strings.Contains(title, "P3  100.300 ms  lb eth0 out, 172 bytes, IPIP 10.0.0.5 → 10.0.0.6") {
		t.Errorf("the title does not tell the way:\n%s", title)
	}
	if from := l.Rows[5].From; from == l.Socket {
		t.Error("a packet that the client was not seen to send starts at the client")
	}
}

// Where only the client was watched nothing is said to be lost.
func TestClientAlone(t *testing.T) {
	l := newTrace().add(100.1, "client", "eth0", true, data(7, 100)).draw()
	if r := l.Rows[1]; r.Lost || r.From != l.Socket || r.To <= r.From {
		t.Errorf("%+v", r)
	}
}

func TestWords(t *testing.T) {
	icmp := func(from, to netip.AddrPort, kind, code uint8) record.Packet {
		quoted := data(7, 1448)
		return record.Packet{
			Source: from.Addr(), Destination: to.Addr(), Length: 576, Protocol: 1,
			ICMP: &record.ICMP{Type: kind, Code: code, MTU: 1480, Quoted: &quoted},
		}
	}
	unquoted := icmp(local, local, 3, 4)
	unquoted.ICMP.Quoted = nil
	fragment := record.Packet{Source: local.Addr(), Destination: remote.Addr(), Length: 1500, Protocol: 6, Fragment: true}
	back := record.Packet{Source: remote.Addr(), Destination: local.Addr(), Length: 60, Protocol: 17}
	for want, p := range map[string]record.Packet{
		"refused kernel refuses 1500 B, mtu 1480": icmp(local, local, 3, 4),
		"refused kernel refuses, mtu 1480":        unquoted,
		"icmp frag-needed, mtu 1480":              icmp(remote, local, 3, 4),
		"icmp ICMP type 11 code 0":                icmp(remote, local, 11, 0),
		"data 1500 B, IP fragment":                fragment,
		"reply 60 B":                              back,
		"reply ACK, RST":                          reply("R.", 5, 0),
		"reply 92 B, 40 of response, FIN":         reply("FP.", 5, 40),
	} {
		w := newWords(newTrace().Requests[0])
		if kind, label := w.packet(record.Event{Packet: &p}); string(kind)+" "+label != want {
			t.Errorf("%s %s, want %s", kind, label, want)
		}
	}
}

// The first fragment aside, fragments have no ports and so no connection.
func TestFragments(t *testing.T) {
	tr := newTrace()
	tr.add(100.1, "client", "eth0", true, record.Packet{Source: local.Addr(), Destination: remote.Addr(), Length: 1500, Protocol: 6, Fragment: true})
	tr.Timeline[0].Connection = ""
	if l := tr.draw(); len(l.Rows) != 3 {
		t.Errorf("%d rows, want the write, the fragment and the end", len(l.Rows))
	}
}

// What never ended has no end, and what failed says so.
func TestEnds(t *testing.T) {
	for want, change := range map[Kind]func(*record.Request){
		Done:   func(*record.Request) {},
		Failed: func(q *record.Request) { q.Status = 0 },
		Data:   func(q *record.Request) { q.Status, q.Ended = 0, 0 },
	} {
		tr := newTrace().add(9000, "client", "eth0", true, data(7, 1)).add(9000.1, "client", "eth0", true, data(8, 1))
		tr.Timeline[0].At = 101
		change(&tr.Requests[0])
		l := tr.draw()
		if got := l.Rows[len(l.Rows)-1].Kind; got != want {
			t.Errorf("the last row is %s, want %s", got, want)
		}
		check(t, l)
	}
}

func TestBounds(t *testing.T) {
	tr := newTrace()
	for i := range 300 {
		at := 100 + record.Ms(i)/10
		tr.add(at, "client", "eth0", true, data(uint32(i), 1))
		tr.add(at, fmt.Sprintf("a-node-with-a-long-name-%d", i), "eth0", false, data(uint32(i), 1))
	}
	l := tr.draw()
	check(t, l)
	if len(l.Rows) != mostRows+2 || l.More != 300-mostRows {
		t.Errorf("%d rows and %d more", len(l.Rows), l.More)
	}
	if n := len(l.Lanes); n != mostLanes || l.Lanes[n-1].Label != "others" {
		t.Errorf("%d lanes, the last %q", n, l.Lanes[n-1].Label)
	}
	for _, lane := range l.Lanes {
		if n := len([]rune(lane.Label)); n > mostLetters {
			t.Errorf("lane %q has %d letters", lane.Label, n)
		}
	}
}

func TestAxis(t *testing.T) {
	var a axis
	for _, step := range []struct {
		at   record.Ms
		y    float64
		what string
	}{
		{10, headHeight, "the first row"},
		{10.001, headHeight + rowHeight, "rows that crowd"},
		{12.001, headHeight + 3*rowHeight, "2 ms are two rows"},
		{11, headHeight + 4*rowHeight, "what is out of order comes next"},
	} {
		if got := a.add(step.at); got != step.y {
			t.Errorf("%s: %.1f, want %.1f", step.what, got, step.y)
		}
	}
	top := a.pause(212, 90)
	if end := a.add(212); end != top+90+rowHeight {
		t.Errorf("the row after a break from %.1f is at %.1f", top, end)
	}
	for _, p := range []struct {
		at record.Ms
		y  float64
	}{{0, headHeight}, {10, headHeight}, {11.001, headHeight + 2*rowHeight}, {112.0005, top + 45}, {213, top + 90 + rowHeight}} {
		if got := a.pixels(p.at); got < p.y-0.01 || got > p.y+0.01 {
			t.Errorf("%.4f ms is at %.2f, want %.2f", float64(p.at), got, p.y)
		}
	}
}

func TestScale(t *testing.T) {
	r := recorded(t, "question-4")
	spans, length := Scale(r)
	if len(spans) != len(r.Requests) || length != r.Requests[5].Latency {
		t.Fatalf("%d spans on a scale of %v", len(spans), length)
	}
	last := spans[5]
	if last.Width != 100 || len(last.Waits) != 2 {
		t.Fatalf("the longest request: %+v", last)
	}
	probe, ack := last.Waits[0], last.Waits[1]
	if probe.X > 0.01 || probe.X+probe.Width > ack.X+0.1 || ack.X+ack.Width > 100 {
		t.Errorf("the waits: %+v, %+v", probe, ack)
	}
	if spans, length := Scale(record.Result{Requests: make([]record.Request, 2)}); spans != nil || length != 0 {
		t.Errorf("requests that took no time: %v, %v", spans, length)
	}
	r.Stalls[0].Waits[0].Evidence = nil
	if spans, _ := Scale(r); len(spans[5].Waits) != 1 {
		t.Errorf("a wait without evidence has a place: %+v", spans[5].Waits)
	}
}
