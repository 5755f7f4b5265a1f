// Events in words, one line each.

package report

import (
	"fmt"
	"strings"

	"github.com/pmtulab/pmtulab/lab/diagnosis"
	"github.com/pmtulab/pmtulab/lab/record"
)

// eventRow is a row of the list of events.
type eventRow struct {
	// Anchor is ID where it is unique and of the usual form, else empty.
	ID, Anchor, At, Where, Connection, Text string
	// Kind is step, packet, icmp, socket, stalled or call.
	Kind string
	// Stack is that of a call.
	Stack []string
}

// events lists the timeline, and notes which ids are in the list.
func (p *page) events() {
	for i, e := range p.Timeline {
		if i == mostEvents {
			p.Cut = len(p.Timeline) - i
			return
		}
		anchor := ""
		if !p.listed[e.ID] && eventID.FindString(e.ID) == e.ID {
			anchor, p.listed[e.ID] = e.ID, true
		}
		row := eventRow{
			Anchor: anchor,
			ID:     e.ID, At: fmt.Sprintf("%.3f", e.At), Where: strings.TrimSpace(e.Node + " " + e.Interface),
			Connection: strings.TrimSpace(e.Connection + " " + string(e.Leg)), Text: e.Text, Kind: "step",
		}
		switch {
		case e.Packet != nil:
			row.Kind, row.Text = "packet", packetText(e.Packet)
			if e.Packet.ICMP != nil {
				row.Kind = "icmp"
			}
		case e.Call != nil:
			row.Kind, row.Text, row.Stack = "call", e.Call.Text(), e.Call.Stack
		case e.Socket != nil:
			row.Kind, row.Text = "socket", socketText(e.Socket)
			if diagnosis.Stalled(e.Socket) {
				row.Kind = "stalled"
			}
		case e.Route != nil:
			row.Kind, row.Text = "route", routeText(e.Route)
		}
		p.Events = append(p.Events, row)
	}
}

// routeText says what a node has learned.
func routeText(r *record.Route) string {
	return fmt.Sprintf("exception for %s dev %s %s: mtu %d, expires in %d s",
		r.Exception.Destination, r.Exception.Device, r.Change, r.Exception.MTU, r.Exception.ExpiresS)
}

// packetText is p in the manner of tcpdump.
func packetText(p *record.Packet) string {
	var b strings.Builder
	way := "in"
	if p.Out {
		way = "out"
	}
	fmt.Fprintf(&b, "%s ", way)
	for ; p.Inner != nil; p = p.Inner {
		fmt.Fprintf(&b, "%s > %s, length %d, IPIP: ", p.Source, p.Destination, p.Length)
	}
	if src, dst, ok := p.Endpoints(); ok {
		fmt.Fprintf(&b, "%s > %s [%s] seq %d ack %d, %d bytes", src, dst, p.TCP.Flags, p.TCP.Seq, p.TCP.Ack, p.TCP.Payload)
		if p.TCP.MSS > 0 {
			fmt.Fprintf(&b, ", MSS %d", p.TCP.MSS)
		}
	} else {
		fmt.Fprintf(&b, "%s > %s", p.Source, p.Destination)
	}
	if c := p.ICMP; c != nil {
		fmt.Fprintf(&b, " ICMP type %d code %d", c.Type, c.Code)
		if p.FragNeeded() {
			fmt.Fprintf(&b, " frag-needed, mtu %d", c.MTU)
		}
		if c.Quoted != nil {
			fmt.Fprintf(&b, ", quoting %d bytes", c.Quoted.Length)
			if src, dst, ok := c.Quoted.Endpoints(); ok {
				fmt.Fprintf(&b, " %s > %s seq %d", src, dst, c.Quoted.TCP.Seq)
			}
		}
	}
	fmt.Fprintf(&b, ", length %d", p.Length)
	if p.DF {
		b.WriteString(", DF")
	}
	if p.Fragment {
		b.WriteString(", fragment")
	}
	return b.String()
}

func socketText(s *record.Socket) string {
	timer := "no timer"
	if s.Timer != record.TimerNone {
		timer = fmt.Sprintf("%s timer, %.0f ms left", s.Timer, s.Expires)
	}
	return fmt.Sprintf("%s %s > %s, %s; unacked %d, notsent %d, snd_mss %d, pmtu %d, retransmits %d",
		s.State, s.Local, s.Remote, timer, s.Unacked, s.NotSent, s.SendMSS, s.PMTU, s.Retransmits)
}
