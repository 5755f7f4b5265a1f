// Lanes: the places where packets were seen, from the application to the server.

package ladder

import (
	"fmt"
	"slices"

	"github.com/pmtulab/pmtulab/lab/record"
)

// Percent is a share of the width.
type Percent float64

// String is p as SVG and CSS want it.
func (p Percent) String() string { return fmt.Sprintf("%.1f%%", float64(p)) }

// Lane is one place where packets start, pass or end.
type Lane struct {
	// Label is short; Title says what the lane is.
	Label, Title string
	// Node is the node that the lane belongs to.
	Node string
	X    Percent
}

const (
	firstLane, lastLane = Percent(21), Percent(92)
	// mostLanes is how many lanes can be told apart; the last stands for all
	// places beyond.
	mostLanes = 9
	// mostLetters is the room for the name of a lane, in letters.
	mostLetters = 9
)

// lanes are the lanes of one request by place.
type lanes struct {
	list []Lane
	// client is the node that sends the request.
	client string
	// app and socket are the lanes of the application and of the socket of
	// the wire leg.
	app, socket int
	// at finds the lane of an interface of the client, or of another node.
	at map[place]int
}

// place is an interface of the client, or another node as a whole.
type place struct{ node, device string }

func (l *lanes) place(e record.Event) place {
	if e.Node == l.client {
		return place{e.Node, e.Interface}
	}
	return place{node: e.Node}
}

// layLanes finds the lanes of q: those of the client, and the other nodes in
// the order in which its packets met them.
func layLanes(q record.Request, client string, events []record.Event) *lanes {
	l := &lanes{client: client, at: map[place]int{}}
	add := func(label, title, node string) int {
		l.list = append(l.list, Lane{Label: short(label, mostLetters), Title: title, Node: node})
		return len(l.list) - 1
	}
	lo := place{client, "lo"}
	l.app = add("app", "the application on "+client, client)
	if slices.ContainsFunc(events, func(e record.Event) bool { return e.Packet != nil && l.place(e) == lo }) {
		l.at[lo] = add("lo", "the loopback device of "+client, client)
	}
	if q.Connection.Upstream != nil {
		l.socket = add("sidecar", "the upstream socket of the sidecar on "+client, client)
	} else {
		l.socket = add("socket", "the application's socket on "+client, client)
	}
	for _, own := range []bool{true, false} {
		for _, e := range events {
			p := l.place(e)
			if _, known := l.at[p]; known || e.Packet == nil || (e.Node == client) != own {
				continue
			}
			switch {
			case len(l.list) == mostLanes:
				l.at[p] = mostLanes - 1
				l.list[mostLanes-1].Label, l.list[mostLanes-1].Title = "others", "other places"
			case own:
				l.at[p] = add(p.device, p.device+" of "+client, client)
			default:
				l.at[p] = add(p.node, "the node "+p.node, p.node)
			}
		}
	}
	for i := range l.list {
		l.list[i].X = firstLane + Percent(i)*l.step()
	}
	return l
}

// step is the distance of two lanes.
func (l *lanes) step() Percent { return (lastLane - firstLane) / Percent(max(1, len(l.list)-1)) }

// x is where the lane of e is.
func (l *lanes) x(e record.Event) Percent { return l.list[l.at[l.place(e)]].X }

// clientOf is the node that sends q, as its events tell: the first that a
// packet of it left.
func clientOf(q record.Request, events []record.Event) string {
	wire := q.Connection.Wire()
	for _, e := range events {
		if e.Socket != nil || e.Leg == record.AppLeg && q.Connection.Upstream != nil ||
			e.Packet != nil && e.Packet.Out && e.Packet.Source == wire.Local.Addr() {
			return e.Node
		}
	}
	return ""
}
