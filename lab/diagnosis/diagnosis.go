// Package diagnosis says why a request took the time it took. It is pure: it
// reads the events and counters of a run, on any operating system, and returns
// a class, the observations behind it, and the waits of a stall.
package diagnosis

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/pmtulab/pmtulab/lab/record"
)

// Case is what is known about one request.
type Case struct {
	// Request needs Connection, Bytes, Status, Wrote and Ended; an Ended of 0
	// means that no response came and the rest of the run counts. Its Counters
	// tell of fragments that another node than the client made.
	Request record.Request
	// Client is the node that sent it.
	Client string
	// Events are those of the whole run, in time order.
	Events []record.Event
}

// Diagnosis is the answer for one request.
type Diagnosis struct {
	Class record.Class
	// Reasons are observations with the ids of their events in parentheses.
	Reasons []string
	// Stall is set when the connection had data to send and sent nothing.
	Stall *record.Stall
}

// Classify explains one request from its packets, ICMPs and socket samples.
func Classify(c Case) Diagnosis {
	f := gather(c)
	d := Diagnosis{Reasons: f.reasons(c)}
	switch {
	case f.vanished(c):
		d.Class = record.BlackHole
	case len(f.refused) > 0 && len(f.stalled) > 0 && f.waitedForTimer():
		d.Class, d.Stall = record.PMTUStall, f.stall(c)
	case len(f.refused) > 0 && len(f.data) > 0:
		d.Class = record.Rescued
	case f.tiny():
		d.Class = record.TinySegments
	case len(f.fromPath) > 0 && len(f.retransmits) > 0:
		d.Class = record.PMTURetransmit
	case len(f.fragments) > 0 || len(fragmenters(c.Request)) > 0:
		d.Class = record.Fragmented
	case len(f.refused) == 0 && len(f.fromPath) == 0 && len(f.retransmits) == 0 && len(f.data) > 0 && c.Request.Status != 0:
		d.Class = record.Clean
	default:
		d.Class = record.Unclassified
	}
	return d
}

// flow is what the events say about one request's leg on the wire.
type flow struct {
	// data are packets with payload that left the client, retransmits those
	// of them whose sequence numbers had left before.
	data, retransmits []record.Event
	// acks are packets that came back.
	acks []record.Event
	// fromPath and refused are frag-needed ICMPs that quote the leg, as they
	// reached the client: from another host, or from its own kernel.
	fromPath, refused []record.Event
	// stalled are samples with the probe0 timer armed, nothing in flight and
	// data unsent.
	stalled []record.Event
	// learned are exceptions that the client got for the leg's destination.
	learned []record.Event
	// fragments are IP fragments from the client's address.
	fragments []record.Event
}

// delayedAck is the least that a receiver delays an acknowledgement:
// TCP_DELACK_MIN of 40 ms (net/tcp.h), less the tick of a kernel with HZ=100.
const delayedAck = record.Ms(30)

// routeDelay is how much later than it came about a change of a route is seen.
const routeDelay = record.Ms(25)

// alignment bounds how far the clock of packets may be from that of writes.
const alignment = record.Ms(1)

func gather(c Case) flow {
	var f flow
	wire := c.Request.Connection.Wire()
	from, to := c.Request.Wrote-alignment, c.Request.Ended
	highest, sent := uint32(0), false
	for _, e := range c.Events {
		if e.Node != c.Client || e.At < from {
			continue
		}
		if r := e.Route; r != nil && r.Change != record.RouteGone && r.Exception.Destination == wire.Remote.Addr() && (to == 0 || e.At <= to+routeDelay) {
			f.learned = append(f.learned, e)
		}
		if to > 0 && e.At > to {
			continue
		}
		if s := e.Socket; s != nil && s.Local == wire.Local && s.Remote == wire.Remote && Stalled(s) {
			f.stalled = append(f.stalled, e)
		}
		p := e.Packet
		if p == nil {
			continue
		}
		switch {
		case p.FragNeeded():
			if p.Out || !quotes(p.ICMP, wire) {
				continue
			}
			if p.SelfAddressed() {
				f.refused = append(f.refused, e)
			} else {
				f.fromPath = append(f.fromPath, e)
			}
		case p.Fragment && p.Source == wire.Local.Addr() && p.Destination == wire.Remote.Addr():
			f.fragments = append(f.fragments, e)
		case sameFlow(p, wire.Local, wire.Remote) && p.Out && p.TCP.Payload > 0:
			end := p.TCP.Seq + uint32(p.TCP.Payload)
			if sent && int32(p.TCP.Seq-highest) < 0 {
				f.retransmits = append(f.retransmits, e)
			}
			if !sent || int32(end-highest) > 0 {
				highest, sent = end, true
			}
			f.data = append(f.data, e)
		case sameFlow(p, wire.Remote, wire.Local) && !p.Out:
			f.acks = append(f.acks, e)
		}
	}
	return f
}

// Stalled tells whether a sample is the signature of the stall: the probe0
// timer is armed although nothing is in flight, and there is data to send.
func Stalled(s *record.Socket) bool {
	return s.Timer == record.TimerProbe0 && s.Unacked == 0 && s.NotSent > 0
}

func sameFlow(p *record.Packet, source, destination netip.AddrPort) bool {
	from, to, ok := p.Endpoints()
	return ok && from == source && to == destination
}

func quotes(icmp *record.ICMP, leg record.Leg) bool {
	return icmp.Quoted != nil && sameFlow(icmp.Quoted, leg.Local, leg.Remote)
}

// fragCreates counts the fragments that a node has made, not those that it
// forwards (RFC 4293 ipSystemStatsOutFragCreates).
const fragCreates = "Ip.FragCreates"

// fragmenters are the nodes that made IP fragments during the request.
func fragmenters(q record.Request) []string {
	var nodes []string
	for _, node := range slices.Sorted(maps.Keys(q.Counters)) {
		if q.Counters[node][fragCreates] > 0 {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// waitedForTimer tells whether the first packet came when the timer did, and
// not earlier, by a rescue. Half of the sampled expiry divides the two: a
// rescue has no reason to come near the timer's end.
func (f flow) waitedForTimer() bool {
	if len(f.data) == 0 {
		return true // it waits still
	}
	first := f.stalled[0]
	return f.data[0].At > first.At+first.Socket.Expires/2
}

// vanished tells whether the request was sent, sent again, and never
// acknowledged.
func (f flow) vanished(c Case) bool {
	if c.Request.Status != 0 || len(f.retransmits) < 2 {
		return false
	}
	for _, ack := range f.acks {
		if int32(ack.Packet.TCP.Ack-f.data[0].Packet.TCP.Seq) > 0 {
			return false
		}
	}
	return true
}

// tiny tells whether the request began to cross the wire in segments that no
// live device asks for. Once one of them has looked the route up, and was
// acknowledged, longer ones follow.
func (f flow) tiny() bool {
	// 68 is the smallest IPv4 MTU (RFC 791); without the headers 28 remain,
	// and the kernel floors the segment at 48 with options, 36 with timestamps.
	const most = 48
	if len(f.data) < 3 {
		return false
	}
	for _, e := range f.data[:2] {
		if e.Packet.TCP.Payload > most {
			return false
		}
	}
	return true
}

// predicted is when the timer is to fire by the middle one of what the samples
// say: a busy machine can hold one up between its time and its look at the timer.
func predicted(samples []record.Event) record.Ms {
	all := make([]record.Ms, len(samples))
	for i, e := range samples {
		all[i] = e.At + e.Socket.Expires
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// stall measures from the write to the first packet, and names the waits.
func (f flow) stall(c Case) *record.Stall {
	s := &record.Stall{
		Request: c.Request.Name, Connection: c.Request.Connection.Name,
		Samples:   len(f.stalled),
		Predicted: predicted(f.stalled),
	}
	if len(f.data) == 0 {
		s.Duration = f.stalled[len(f.stalled)-1].At - c.Request.Wrote
		s.Waits = []record.Wait{{Kind: record.WaitProbe0, Ms: s.Duration, Evidence: ids(f.refused[:1], f.stalled)}}
		return s
	}
	probe := f.data[0]
	s.Duration = probe.At - c.Request.Wrote
	s.Waits = []record.Wait{{
		Kind: record.WaitProbe0, Ms: s.Duration,
		Evidence: ids(f.refused[:1], ends(f.stalled), f.data[:1]),
	}}
	if len(f.data) < 2 {
		return s
	}
	// The timer sends one segment only; the rest leaves with its ACK.
	rest := f.data[1]
	for _, ack := range f.acks {
		if ack.At >= probe.At && ack.At <= rest.At && ack.Packet.TCP.Ack == probe.Packet.TCP.Seq+uint32(probe.Packet.TCP.Payload) {
			kind := record.WaitRTT
			if ack.At-probe.At >= delayedAck {
				kind = record.WaitDelayedAck
			}
			s.Waits = append(s.Waits, record.Wait{
				Kind: kind, Ms: ack.At - probe.At, Evidence: ids(f.data[:1], []record.Event{ack}),
			})
			break
		}
	}
	return s
}

func (f flow) reasons(c Case) []string {
	var reasons []string
	say := func(format string, args ...any) { reasons = append(reasons, fmt.Sprintf(format, args...)) }
	if n := len(f.fromPath); n > 0 {
		p := f.fromPath[0].Packet
		say("%s from %s: frag-needed, mtu %d, quoting a packet of %d bytes (%s)",
			count(n, "ICMP"), p.Source, p.ICMP.MTU, p.ICMP.Quoted.Length, strings.Join(ids(f.fromPath), " "))
	}
	for _, e := range f.learned {
		x := e.Route.Exception
		say("%s has learned mtu %d for %s (%s)", c.Client, x.MTU, x.Destination, e.ID)
	}
	if n := len(f.refused); n > 0 {
		p := f.refused[0].Packet
		say("%s from %s to itself: its own kernel refused %s of %d bytes, route mtu %d (%s)",
			count(n, "ICMP"), p.Source, count(n, "segment"), p.ICMP.Quoted.Length, p.ICMP.MTU, strings.Join(ids(f.refused), " "))
	}
	if n := len(f.stalled); n > 0 {
		s := f.stalled[0].Socket
		say("%s of the socket show the probe0 timer, %d unacked, %d bytes not sent, snd_mss %d, pmtu %d (%s)",
			count(n, "sample"), s.Unacked, s.NotSent, s.SendMSS, s.PMTU, strings.Join(ids(ends(f.stalled)), " to "))
	}
	if n := len(f.retransmits); n > 0 {
		say("%s retransmitted, first %s (%s)", count(n, "segment"), f.retransmitDelay(), strings.Join(ids(f.retransmits), " "))
	}
	if n := len(f.fragments); n > 0 {
		say("%s on the wire (%s)", count(n, "IP fragment"), strings.Join(ids(ends(f.fragments)), " to "))
	}
	for _, node := range fragmenters(c.Request) {
		say("%s cut packets into %s meanwhile (%s)", node, count(int(c.Request.Counters[node][fragCreates]), "IP fragment"), fragCreates)
	}
	if len(f.data) > 0 {
		first := f.data[0]
		say("first packet %.1f ms after the write, %d bytes (%s)", first.At-c.Request.Wrote, first.Packet.Length, first.ID)
	} else {
		say("no data packet of this request was seen")
	}
	return reasons
}

// retransmitDelay is the time from the last ICMP before the retransmission.
func (f flow) retransmitDelay() string {
	at := f.retransmits[0].At
	for i := len(f.fromPath) - 1; i >= 0; i-- {
		if d := at - f.fromPath[i].At; d >= 0 {
			return fmt.Sprintf("%.2f ms after the ICMP", d)
		}
	}
	return fmt.Sprintf("%.1f ms after the first packet", at-f.data[0].At)
}

// ends are the first and the last of events.
func ends(events []record.Event) []record.Event {
	if len(events) < 2 {
		return events
	}
	return []record.Event{events[0], events[len(events)-1]}
}

func ids(groups ...[]record.Event) []string {
	var out []string
	for _, group := range groups {
		for _, e := range group {
			out = append(out, e.ID)
		}
	}
	return out
}

func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
