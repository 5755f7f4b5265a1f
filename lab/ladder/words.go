package ladder

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/pmtulab/pmtulab/lab/record"
)

// words says what packets carry, counting bytes from the first of the request
// on each leg.
type words struct {
	request record.Request
	// app and wire are what was sent on each leg.
	app, wire stream
}

// stream is the bytes that were sent in one direction of a connection.
type stream struct {
	local          netip.AddrPort
	first, highest uint32
	begun          bool
}

func newWords(q record.Request) words {
	return words{request: q, app: stream{local: q.Connection.App.Local}, wire: stream{local: q.Connection.Wire().Local}}
}

func (w *words) write() string { return fmt.Sprintf("writes %d bytes", w.request.Bytes) }

func (w *words) end() string {
	if w.request.Status != 0 {
		return fmt.Sprintf("has the response, status %d", w.request.Status)
	}
	return "gives up"
}

// stream is the one that p belongs to: as bytes, or as an acknowledgement.
func (w *words) stream(p *record.Packet) *stream {
	src, dst, _ := p.Endpoints()
	if src == w.app.local || dst == w.app.local {
		return &w.app
	}
	return &w.wire
}

// local tells whether e is of the connection between application and sidecar.
func (w *words) local(e record.Event) bool {
	return e.Leg == record.AppLeg && w.request.Connection.Upstream != nil
}

// leaves tells whether p goes from the client towards the server.
func (w *words) leaves(p *record.Packet) bool {
	src, _, ok := p.Endpoints()
	return ok && src == w.stream(p).local || !ok && p.Source == w.wire.local.Addr() && !p.SelfAddressed()
}

// packet says what the packet of e is.
func (w *words) packet(e record.Event) (Kind, string) {
	p := innermost(e.Packet)
	switch {
	case p.FragNeeded() && p.SelfAddressed():
		return Refused, fmt.Sprintf("kernel refuses%s, mtu %d", quoted(p.ICMP, " %d B"), p.ICMP.MTU)
	case p.FragNeeded():
		return ICMP, fmt.Sprintf("frag-needed, mtu %d", p.ICMP.MTU)
	case p.ICMP != nil:
		return ICMP, fmt.Sprintf("ICMP type %d code %d", p.ICMP.Type, p.ICMP.Code)
	case p.TCP == nil && w.leaves(p):
		return Data, fmt.Sprintf("%d B%s", p.Length, fragment(p))
	case p.TCP == nil:
		return Reply, fmt.Sprintf("%d B%s", p.Length, fragment(p))
	}
	s, t := w.stream(p), p.TCP
	switch {
	case w.leaves(p) && t.Payload > 0:
		kind, from, to := s.send(t)
		label := fmt.Sprintf("%d B, %d–%d%s", p.Length, from, to, flags(t))
		if kind == Again {
			label += ", again"
		}
		return kind, label
	case t.Payload > 0:
		return Reply, fmt.Sprintf("%d B, %d of response%s", p.Length, t.Payload, flags(t))
	case s.begun && !w.leaves(p):
		return Reply, fmt.Sprintf("ACK %d%s", t.Ack-s.first, flags(t))
	default:
		return Reply, "ACK" + flags(t)
	}
}

// send notes the bytes of t, counted from the first that was sent.
func (s *stream) send(t *record.TCP) (kind Kind, from, to uint32) {
	end := t.Seq + uint32(t.Payload)
	if !s.begun {
		s.first, s.highest, s.begun = t.Seq, t.Seq, true
	}
	kind = Data
	if int32(t.Seq-s.highest) < 0 {
		kind = Again
	}
	if int32(end-s.highest) > 0 {
		s.highest = end
	}
	return kind, t.Seq - s.first, end - s.first
}

func flags(t *record.TCP) string {
	out := ""
	for _, f := range []struct{ letter, name string }{{"S", ", SYN"}, {"F", ", FIN"}, {"R", ", RST"}} {
		if strings.Contains(t.Flags, f.letter) {
			out += f.name
		}
	}
	return out
}

func quoted(icmp *record.ICMP, format string) string {
	if icmp.Quoted == nil {
		return ""
	}
	return fmt.Sprintf(format, icmp.Quoted.Length)
}

func fragment(p *record.Packet) string {
	if p.Fragment {
		return ", IP fragment"
	}
	return ""
}

// title tells every sighting of a packet, one a line.
func title(j journey) string {
	lines := make([]string, 0, len(j))
	for _, e := range j {
		way := "in"
		if e.Packet.Out {
			way = "out"
		}
		tunnel := ""
		if e.Packet.Inner != nil {
			tunnel = fmt.Sprintf(", IPIP %s → %s", e.Packet.Source, e.Packet.Destination)
		}
		lines = append(lines, fmt.Sprintf("%s  %.3f ms  %s %s %s, %d bytes%s", e.ID, float64(e.At), e.Node, e.Interface, way, e.Packet.Length, tunnel))
	}
	return strings.Join(lines, "\n")
}

// short cuts s to at most n runes.
func short(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
