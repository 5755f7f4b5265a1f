// Package report shows a record.Result to people and machines. It is pure: it
// renders what was recorded, and measures nothing.
package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"charm.land/lipgloss/v2"

	"github.com/pmtulab/pmtulab/lab/diagnosis"
	"github.com/pmtulab/pmtulab/lab/record"
)

// Terminal writes r as text for people.
func Terminal(w io.Writer, r record.Result, style Style) error {
	t := &terminal{printer: newPrinter(style), Result: r}
	t.headline()
	t.mitigations()
	t.drawing(r.Drawing)
	t.requests()
	t.exceptions()
	t.counters()
	t.section("Arithmetic", r.Arithmetic...)
	t.evidence()
	t.expectations()
	t.paragraphs("Conclusion", r.Conclusion...)
	t.reasons()
	return t.writeTo(w)
}

// terminal shows one result.
type terminal struct {
	*printer
	record.Result
}

// drawing shows the network where the lines are long enough.
func (p *printer) drawing(lines []string) {
	for _, l := range lines {
		if n := 2 + lipgloss.Width(l); n > p.Width {
			lines = []string{fmt.Sprintf("its drawing takes %d columns; it is in the JSON form of the result", n)}
			break
		}
	}
	p.section("Network", lines...)
}

func (t *terminal) headline() {
	partial := ""
	if t.Partial {
		partial = " (partial)"
	}
	t.line("%s  %s%s  Linux %s on %s  %.2f s", t.bold(t.Scenario), t.verdict(t.Verdict), partial, t.Runtime.Kernel, place(t.Runtime), t.Duration/1000)
	t.chosen(t.Runtime)
}

// chosen says why a run was made where it was.
func (p *printer) chosen(r record.Runtime) {
	if r.Reason == "" {
		return
	}
	text := "chosen because " + r.Reason
	if r.AcceleratorReason != "" {
		text += fmt.Sprintf("; %s: %s", r.Accelerator, r.AcceleratorReason)
	}
	p.line("%s", p.faint(text))
}

func (t *terminal) mitigations() {
	for _, m := range t.Mitigations {
		when := "before any connection"
		if m.Live {
			when = "while connections were open"
		}
		t.line("%s %s: %s", t.bold(m.Name), when, m.Command)
		if m.Note != "" {
			t.hang(2, "  "+m.Note)
		}
	}
}

// place is where a run was made, as a noun phrase.
func place(r record.Runtime) string {
	if r.On == "qemu" {
		return placeName(r.On) + " with " + r.Accelerator
	}
	return placeName(r.On)
}

// placeName is the noun phrase for a value of Runtime.On.
func placeName(on string) string {
	switch on {
	case "uml":
		return "User-Mode Linux"
	case "qemu":
		return "QEMU"
	default:
		return "this host"
	}
}

func (t *terminal) requests() {
	if len(t.Requests) == 0 {
		return
	}
	t.line("\n%s  %s", t.bold("What happened"), t.faint("ms after the write of each request, on the client's wire leg"))
	for i, q := range t.Requests {
		if i > 0 {
			t.line("")
		}
		wire := q.Connection.Wire()
		leg := "the application's own socket"
		if q.Connection.Upstream != nil {
			leg = "the sidecar's upstream leg"
		}
		took := fmt.Sprintf("%.1f ms", q.Latency)
		if q.Status == 0 {
			took = "no response"
		}
		t.line("  %s  %s  %s", t.bold(q.Name), t.class(q.Class), took)
		t.line("     %d bytes of TLS, %s → %s, %s", q.Bytes, wire.Local, wire.Remote, leg)
		t.line("     SYN MSS %s out, %s in%s; send MSS %d", mss(wire.MSSOut), mss(wire.MSSIn), appMSS(q.Connection), q.SendMSS)
		if q.Failure != "" {
			t.line("     %s", t.paint(red, q.Failure))
		}
		switch q.Class {
		case record.Clean:
			continue // nothing happened to it
		case record.PMTURetransmit, record.PMTUStall: // the story says it all
		default:
			for _, reason := range q.ClassReasons {
				t.hang(5, "     "+reason)
			}
		}
		for _, l := range t.story(q) {
			t.hang(14, "     "+l)
		}
	}
}

func appMSS(c record.Connection) string {
	if c.Upstream == nil {
		return ""
	}
	return fmt.Sprintf("; on the application's leg %s out, %s in", mss(c.App.MSSOut), mss(c.App.MSSIn))
}

func mss(n uint16) string {
	if n == 0 {
		return "(not seen)"
	}
	return fmt.Sprint(n)
}

// story tells one request packet by packet, with the waits between them.
func (t *terminal) story(q record.Request) []string {
	wire := q.Connection.Wire()
	at := func(m record.Ms) string { return fmt.Sprintf("%+7.1f", m-q.Wrote) }
	lines := []string{fmt.Sprintf("%s  the application writes %d bytes", at(q.Wrote), q.Bytes)}
	waits := t.waits(q)
	var first, highest uint32
	sent, sampled := false, false
	for _, e := range t.Timeline {
		if e.At < q.Wrote || q.Ended > 0 && e.At > q.Ended {
			continue
		}
		if wait, ok := waits[e.ID]; ok {
			lines = append(lines, t.paint(red, fmt.Sprintf("%7s  %.1f ms: %s", "┆", wait.Ms, waitText[wait.Kind])))
		}
		if e.Connection != q.Connection.Name || e.Leg == record.AppLeg && q.Connection.Upstream != nil {
			continue
		}
		switch p := e.Packet; {
		case e.Socket != nil && diagnosis.Stalled(e.Socket) && !sampled:
			sampled = true
			s := e.Socket
			lines = append(lines, fmt.Sprintf("%s  socket: %s timer, %.0f ms left; unacked %d, notsent %d, mss %d, pmtu %d  %s",
				at(e.At), s.Timer, s.Expires, s.Unacked, s.NotSent, s.SendMSS, s.PMTU, t.faint(e.ID)))
		case e.Call != nil:
			lines = append(lines, t.faint(fmt.Sprintf("%s  kernel of %s: %s  %s", at(e.At), e.Node, e.Call.Text(), e.ID)))
		case p == nil || p.Out && p.Inner != nil:
			continue
		case p.FragNeeded() && !p.Out && quotesLocal(p, wire):
			who := fmt.Sprintf("← ICMP frag-needed from %s", p.Source)
			if p.SelfAddressed() {
				who = fmt.Sprintf("↺ ICMP frag-needed from %s to itself on %s", p.Source, e.Interface)
			}
			lines = append(lines, t.paint(yellow, fmt.Sprintf("%s  %s, mtu %d, quoting %d bytes", at(e.At), who, p.ICMP.MTU, p.ICMP.Quoted.Length))+"  "+t.faint(e.ID))
		case p.TCP != nil && p.Out && p.Source == wire.Local.Addr() && e.Interface != "lo" && p.TCP.Payload > 0:
			if !sent {
				first, highest, sent = p.TCP.Seq, p.TCP.Seq, true
			}
			again := ""
			if int32(p.TCP.Seq-highest) < 0 {
				again = ", retransmitted"
			}
			if end := p.TCP.Seq + uint32(p.TCP.Payload); int32(end-highest) > 0 {
				highest = end
			}
			lines = append(lines, fmt.Sprintf("%s  → packet of %d bytes, data %d–%d%s  %s", at(e.At), p.Length,
				p.TCP.Seq-first, p.TCP.Seq-first+uint32(p.TCP.Payload), again, t.faint(e.ID)))
		case p.TCP != nil && !p.Out && p.Destination == wire.Local.Addr() && e.Interface != "lo":
			what := "ACK"
			if p.TCP.Payload > 0 {
				what = fmt.Sprintf("%d bytes of response", p.TCP.Payload)
			}
			if sent {
				what += fmt.Sprintf(", acknowledges %d", p.TCP.Ack-first)
			}
			lines = append(lines, fmt.Sprintf("%s  ← %s  %s", at(e.At), what, t.faint(e.ID)))
		}
	}
	if q.Status != 0 {
		lines = append(lines, fmt.Sprintf("%s  the application has the response, status %d", at(q.Ended), q.Status))
	} else {
		lines = append(lines, fmt.Sprintf("%s  the application gives up", at(q.Ended)))
	}
	return lines
}

func quotesLocal(p *record.Packet, wire record.Leg) bool {
	from, _, ok := p.ICMP.Quoted.Endpoints()
	return ok && from == wire.Local
}

var waitText = map[record.WaitKind]string{
	record.WaitProbe0:     "the probe0 timer, with nothing in flight",
	record.WaitDelayedAck: "the receiver's delayed ACK",
	record.WaitRetransmit: "the retransmission timer",
	record.WaitUnknown:    "unexplained",
}

// waits are the waits of q's stall by the id of the event that ended each.
func (t *terminal) waits(q record.Request) map[string]record.Wait {
	out := map[string]record.Wait{}
	for _, s := range t.Stalls {
		if s.Request != q.Name {
			continue
		}
		for _, w := range s.Waits {
			if n := len(w.Evidence); n > 0 && w.Kind != record.WaitRTT {
				out[w.Evidence[n-1]] = w
			}
		}
	}
	return out
}

func (t *terminal) exceptions() {
	var lines []string
	for _, x := range t.Exceptions {
		line := fmt.Sprintf("%s: %s", x.Node, x.Text)
		if id := t.learned(x); id != "" {
			line += "  " + t.faint(id)
		}
		lines = append(lines, line)
	}
	for _, l := range t.Lifetimes {
		scope := ""
		if l.Global {
			scope = ", the machine's"
		}
		lines = append(lines, fmt.Sprintf("%s: they live %s (net.ipv4.route.mtu_expires%s), for IPv6 %s (net.ipv6.route.mtu_expires)",
			l.Node, lifetime(l.IPv4S), scope, lifetime(l.IPv6S)))
	}
	t.section("PMTU exceptions, as ip route get shows them", lines...)
}

// learned is the id of the event in which an exception was seen first, as it is.
func (t *terminal) learned(x record.Exception) string {
	id := ""
	for _, e := range t.Timeline {
		if r := e.Route; r != nil && r.Change != record.RouteGone && e.Node == x.Node && r.Exception.Destination == x.Destination && r.Exception.MTU == x.MTU {
			id = e.ID
		}
	}
	return id
}

func lifetime(seconds int) string {
	if seconds < 0 {
		return "an unknown time"
	}
	return fmt.Sprintf("%d s", seconds)
}

// shown are the counters that tell the story, in the order of a request's life;
// the result holds all of them.
var shown = []string{
	"Icmp.OutDestUnreachs", "Icmp.InDestUnreachs", "Ip.FragFails", "Ip.FragCreates", "Tcp.RetransSegs",
	"TcpExt.TCPTimeouts", "TcpExt.TCPWinProbe", "TcpExt.OutOfWindowIcmps",
}

// counters has a row for each counter of a node that moved, and a column for
// each request; as many tables as it takes to show all requests.
func (t *terminal) counters() {
	if len(t.Requests) == 0 {
		return
	}
	var lines []string
	moved := map[string]bool{}
	for rest := t.Requests; len(rest) > 0; {
		n := 0
		for taken := counterLabels; n < len(rest); n++ {
			if taken += counterColumn(rest[n]); n > 0 && taken > t.Width-2 {
				break
			}
		}
		lines = append(lines, t.counterTable(rest[:n], moved)...)
		rest = rest[n:]
	}
	still := slices.DeleteFunc(t.counterNames(), func(name string) bool { return moved[name] })
	if len(still) > 0 {
		lines = append(lines, "0 everywhere: "+strings.Join(still, ", "))
	}
	t.section("Counters during each request", lines...)
}

// counterLabels is the width of the labels of a row.
const counterLabels = 32

// counterColumn is the width of a request's column.
func counterColumn(q record.Request) int { return max(6, 2+len(q.Name)) }

// counterTable is the part of the table for some requests; moved gathers the
// counters that it shows.
func (t *terminal) counterTable(requests []record.Request, moved map[string]bool) []string {
	head := strings.Repeat(" ", counterLabels)
	for _, q := range requests {
		head += fmt.Sprintf("%*s", counterColumn(q), q.Name)
	}
	lines := []string{t.faint(head)}
	for _, name := range t.counterNames() {
		for _, node := range slices.Sorted(maps.Keys(requests[0].Counters)) {
			row, any := fmt.Sprintf("%-8s %-23s", node, name), false
			for _, q := range requests {
				n := q.Counters[node][name]
				cell := fmt.Sprintf("%*d", counterColumn(q), n)
				if n == 0 {
					cell = t.faint(fmt.Sprintf("%*s", counterColumn(q), "·"))
				}
				row, any = row+cell, any || n != 0
			}
			if any {
				lines, moved[name] = append(lines, row), true
			}
		}
	}
	return lines
}

// counterNames are the shown counters, and those of packets that devices dropped.
func (t *terminal) counterNames() []string {
	names := slices.Clone(shown)
	drops := map[string]bool{}
	for _, q := range t.Requests {
		for _, counters := range q.Counters {
			for name := range counters {
				if strings.HasPrefix(name, "Device.") {
					drops[name] = true
				}
			}
		}
	}
	return append(names, slices.Sorted(maps.Keys(drops))...)
}

func (t *terminal) evidence() {
	f := t.Figures
	if f.Samples == 0 && f.Packets == 0 {
		return
	}
	var lines []string
	if c := t.Clock; c != nil {
		clock := fmt.Sprintf("clock %s, short sleeps at most %.1f ms late", c.Source, c.Jitter)
		if f.Steal > 0 {
			clock += fmt.Sprintf("; %.0f ms of a processor stolen during the run", f.Steal)
		}
		if len(c.Unfit()) > 0 {
			clock = t.paint(red, clock)
		}
		lines = append(lines, clock)
	}
	lost := "nothing was lost"
	if n := len(t.Losses); n > 0 {
		lost = t.paint(red, fmt.Sprintf("losses: %d", n))
	}
	t.section("Evidence", slices.Concat(lines, []string{fmt.Sprintf("%d packets, times exact to %.2f ms; %d socket samples, at most %.1f ms apart; %s",
		f.Packets, f.Alignment, f.Samples, f.MaxGap, lost)}, probes(t.Probes))...)
}

// probes says which kernel functions were watched.
func probes(p *record.Probes) []string {
	switch {
	case p == nil:
		return nil
	case p.Unavailable != "":
		return []string{"kernel functions were not watched: " + p.Unavailable}
	}
	lines := []string{fmt.Sprintf("%d kernel functions watched, attached in %.1f s, %d records", len(p.Functions), p.Attach/1000, p.Records)}
	for _, name := range slices.Sorted(maps.Keys(p.Instead)) {
		line := name + " cannot be probed in this kernel"
		if neighbour := p.Instead[name]; neighbour != "" {
			line += "; " + neighbour + " tells of it"
		}
		lines = append(lines, line)
	}
	return lines
}

func (t *terminal) expectations() {
	if len(t.Expectations) == 0 {
		return
	}
	met := 0
	for _, x := range t.Expectations {
		if x.OK {
			met++
		}
	}
	var lines []string
	for _, x := range t.Expectations {
		mark := t.paint(green, "✓")
		if !x.OK {
			mark = t.paint(red, "✗")
		}
		limit := ""
		if x.Limit != x.Actual {
			limit = fmt.Sprintf(" (%s)", x.Limit)
		}
		lines = append(lines, fmt.Sprintf("%s %s: %s%s", mark, x.Name, x.Actual, limit))
	}
	t.section(fmt.Sprintf("Expectations: %d of %d met", met, len(t.Expectations)), lines...)
}

func (t *terminal) reasons() {
	if t.Verdict == record.Pass {
		return
	}
	t.paragraphs("Why the verdict is "+string(t.Verdict), t.Reasons...)
}
