package diagnosis

import (
	"fmt"
	"strings"

	"github.com/pmtulab/pmtulab/lab/record"
)

// Header lengths in bytes.
const (
	ipHeader     = 20 // RFC 791, no options
	tcpHeader    = 20 // RFC 9293, no options
	tcpTimestamp = 12 // RFC 7323, padded
)

// Arithmetic shows how the measured MTU and MSS figures follow from each other.
// A figure that does not follow is called out.
func Arithmetic(r record.Result) []string {
	var lines []string
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	// follows appends what was measured when it is not what follows.
	follows := func(derived, measured int) string {
		if derived == measured {
			return ""
		}
		return fmt.Sprintf(" – but %d was measured", measured)
	}

	mtu := linkMTU(r)
	if mtu == 0 {
		return nil
	}
	if len(r.Exceptions) > 0 {
		x := r.Exceptions[0]
		say("%d − %d = %d: the MTU less the outer IP header is the mtu of the ICMP and of the exception%s",
			mtu, ipHeader, mtu-ipHeader, follows(mtu-ipHeader, x.MTU))
	}
	if len(r.Requests) > 0 {
		if mss := int(r.Requests[0].Connection.Wire().MSSOut); mss > 0 {
			say("%d − %d − %d = %d: the MTU less the IP and TCP headers is the MSS that the client's SYN offers%s",
				mtu, ipHeader, tcpHeader, mtu-ipHeader-tcpHeader, follows(mtu-ipHeader-tcpHeader, mss))
			say("%d − %d = %d: a segment's payload beside the TCP timestamps", mss, tcpTimestamp, mss-tcpTimestamp)
		}
	}
	if s := stalledSocket(r); s != nil {
		mss := int(s.PMTU) - ipHeader - tcpHeader
		say("%d − %d − %d = %d, and %d − %d = %d: the same after the exception, so this much fits%s",
			s.PMTU, ipHeader, tcpHeader, mss, mss, tcpTimestamp, mss-tcpTimestamp, follows(mss-tcpTimestamp, int(s.SendMSS)))
	}
	return lines
}

// linkMTU is the MTU of the first interface of the node that learned a PMTU,
// or of the first interface of all.
func linkMTU(r record.Result) int {
	for _, link := range r.Links {
		if len(r.Exceptions) == 0 || link.Node == r.Exceptions[0].Node {
			return link.MTU
		}
	}
	return 0
}

func stalledSocket(r record.Result) *record.Socket {
	for _, e := range r.Timeline {
		if e.Socket != nil && Stalled(e.Socket) {
			return e.Socket
		}
	}
	return nil
}

// Conclude explains the run in one sentence for each request and one about what
// prevents a stall, when there was one.
func Conclude(r record.Result) []string {
	var out []string
	for _, request := range r.Requests {
		out = append(out, sentence(r, request))
	}
	if len(r.Stalls) > 0 && len(r.Exceptions) > 0 && len(r.Mitigations) == 0 {
		x := r.Exceptions[0]
		out = append(out, fmt.Sprintf("Neither happens when segments fit %d bytes from the start: "+
			"mtu %d on the client's route to %s, or advmss %d on the real server's route to the client.",
			x.MTU, x.MTU, x.Destination, x.MTU-ipHeader-tcpHeader))
	}
	return out
}

func sentence(r record.Result, q record.Request) string {
	wire := q.Connection.Wire()
	switch q.Class {
	case record.PMTURetransmit:
		size, mtu, from := fragNeeded(r, q, false)
		return fmt.Sprintf("Request %s was too long for the tunnel: its packet of %d bytes did not fit %d, so %s answered with an ICMP, "+
			"the client learned mtu %d for %s and sent the data again at once; the request took %.1f ms.",
			q.Name, size, mtu, from, mtu, wire.Remote.Addr(), q.Latency)
	case record.PMTUStall:
		size, mtu, _ := fragNeeded(r, q, true)
		stall := stallOf(r, q.Name)
		rest := ""
		if len(stall.Waits) > 1 && stall.Waits[1].Kind == record.WaitDelayedAck {
			rest = fmt.Sprintf(" and then %.0f ms for the server's delayed ACK", stall.Waits[1].Ms)
		}
		return fmt.Sprintf("Request %s paid for %s: its idle connection still made packets of %d bytes, "+
			"its own kernel refused them for a route of %d, and since nothing was in flight no ACK could set it going, "+
			"so the data waited %.0f ms for the probe0 timer%s.",
			q.Name, origin(r, wire), size, mtu, stall.Duration, rest)
	case record.TinySegments:
		return fmt.Sprintf("Request %s left in segments too small for any device: a look-up had deleted the expired exception "+
			"that its connection's route was bound to, and the dead route has the MTU of the device blackhole, 68.", q.Name)
	case record.BlackHole:
		return fmt.Sprintf("Request %s vanished: its packets were sent again and again, nobody acknowledged them, and the application gave up.", q.Name)
	case record.Fragmented:
		who := "somebody"
		if nodes := fragmenters(q); len(nodes) > 0 {
			who = strings.Join(nodes, " and ")
		}
		return fmt.Sprintf("Request %s did not fit its path and nobody was told: %s cut its packets into IP fragments; "+
			"it took %.1f ms.", q.Name, who, q.Latency)
	case record.Clean:
		return fmt.Sprintf("Request %s was clean: every packet fitted its path, and it took %.1f ms.", q.Name, q.Latency)
	default:
		return fmt.Sprintf("Request %s is %s after %.1f ms; the reasons are listed with it.", q.Name, q.Class, q.Latency)
	}
}

// origin says what made the route of a stalled connection stale. An exception
// alone does not tell: the refusal makes one as well.
func origin(r record.Result, wire record.Leg) string {
	for _, e := range r.Timeline {
		if p := e.Packet; p.FragNeeded() && !p.SelfAddressed() && p.Destination == wire.Local.Addr() {
			return "what another request had learned"
		}
	}
	for _, m := range r.Mitigations {
		if m.Live {
			return "the change of its route while it was open"
		}
	}
	return "a change of its route"
}

// fragNeeded finds the first ICMP for a request: the size of the packet that it
// quotes, the mtu that it tells, and who sent it.
func fragNeeded(r record.Result, q record.Request, self bool) (size, mtu int, from string) {
	for _, e := range r.Timeline {
		if p := e.Packet; e.At >= q.Wrote-alignment && p.FragNeeded() && !p.Out && p.SelfAddressed() == self && quotes(p.ICMP, q.Connection.Wire()) {
			return p.ICMP.Quoted.Length, p.ICMP.MTU, p.Source.String()
		}
	}
	return 0, 0, "nobody"
}

func stallOf(r record.Result, request string) record.Stall {
	for _, s := range r.Stalls {
		if s.Request == request {
			return s
		}
	}
	return record.Stall{}
}
