package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/pmtulab/pmtulab/lab/record"
)

// Sighting writes s as one line for people.
func Sighting(w io.Writer, s record.Sighting, style Style) error {
	p := newPrinter(style)
	kind := string(s.Kind)
	padding := strings.Repeat(" ", max(0, 14-len(kind)))
	switch {
	case s.Ended || s.Kind == record.SightingICMP:
		kind = p.faint(kind)
	case s.Kind == record.SightingStall:
		kind = p.paint(red, kind)
	default:
		kind = p.paint(yellow, kind)
	}
	if _, err := fmt.Fprintf(w, "%s  %s%s  %s\n", s.Time.Format("15:04:05.000"), kind, padding, sightingText(s)); err != nil {
		return fmt.Errorf("write what was seen: %w", err)
	}
	return nil
}

func sightingText(s record.Sighting) string {
	switch {
	case s.ICMP != nil:
		return fmt.Sprintf("destination unreachable: %d received, %d sent, %d of them to itself; %d packets were too long",
			s.ICMP.Received, s.ICMP.Sent, s.ICMP.SelfMade, s.ICMP.Refused)
	case s.Exception != nil:
		x := *s.Exception
		what := fmt.Sprintf("%s dev %s mtu %d", x.Destination, x.Device, x.MTU)
		if s.Ended {
			return what + ": gone"
		}
		text := fmt.Sprintf("%s for %d s", what, x.ExpiresS)
		if s.Stale > 0 {
			text += fmt.Sprintf("; %s to it make longer packets", plural(s.Stale, "connection"))
		}
		return text
	case s.Socket == nil:
		return ""
	}
	q := *s.Socket
	flow := fmt.Sprintf("%s → %s  ", q.Local, q.Remote)
	if s.Ended {
		return flow + fmt.Sprintf("over, seen for %.0f ms", s.Duration)
	}
	switch s.Kind {
	case record.SightingStall:
		return flow + fmt.Sprintf("probe0 timer, %.0f ms left: nothing in flight, %d bytes unsent, the window is open (%d); mss %d, pmtu %d",
			q.Expires, q.NotSent, q.SendWindow, q.SendMSS, q.PMTU)
	case record.SightingZeroWindow:
		return flow + fmt.Sprintf("probe0 timer, %.0f ms left: the peer takes no more, %d bytes unsent, %d probes unanswered", q.Expires, q.NotSent, q.Probes)
	case record.SightingRetransmission:
		return flow + fmt.Sprintf("retransmission timer, %.0f ms left: %d segments unacknowledged, %d sent again so far; mss %d, pmtu %d",
			q.Expires, q.Unacked, q.Retransmits, q.SendMSS, q.PMTU)
	default:
		return flow + fmt.Sprintf("pmtu %d, mss %d: its next long write may stall, or be sent again", q.PMTU, q.SendMSS)
	}
}
