package evidence

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab/record"
)

// routeWatch notices what a node learns about paths. It compares dumps, which
// look no route up: a look-up would delete an expired exception.
type routeWatch struct {
	known  []record.Exception
	events []record.Event
	// busy is how long the dumps took.
	busy time.Duration
	// failed counts dumps that gave no answer, the last one with err.
	failed int
	err    error
}

// look compares the exceptions of a node with those of the last look.
func (w *routeWatch) look(clock *clock, s *source) {
	start := time.Now()
	now, err := dumpExceptions(s.routes, s.name)
	took := time.Since(start)
	w.busy += took
	switch {
	case errors.Is(err, unix.EINTR):
		return // disturbed by a change, which the next one shows
	case err != nil:
		w.failed, w.err = w.failed+1, err
		return
	}
	at := record.Millis(start.Sub(clock.origin) + took/2)
	w.events = append(w.events, routeChanges(at, w.known, now)...)
	w.known = now
}

// losses are the dumps that gave no answer.
func (w *routeWatch) losses(node string) []record.Loss {
	if w.failed == 0 {
		return nil
	}
	return []record.Loss{{Source: "routes", Node: node, Count: w.failed, Detail: w.err.Error()}}
}

// routeChanges are the differences between two dumps.
func routeChanges(at record.Ms, before, now []record.Exception) []record.Event {
	var events []record.Event
	add := func(change record.RouteChange, x record.Exception) {
		events = append(events, record.Event{
			At: at, Node: x.Node, Route: &record.Route{Change: change, Exception: x},
			Text: fmt.Sprintf("exception for %s %s: mtu %d, expires in %d s", x.Destination, change, x.MTU, x.ExpiresS),
		})
	}
	find := func(list []record.Exception, x record.Exception) (record.Exception, bool) {
		i := slices.IndexFunc(list, func(y record.Exception) bool { return y.Destination == x.Destination && y.Device == x.Device })
		if i < 0 {
			return x, false
		}
		return list[i], true
	}
	for _, x := range now {
		switch old, ok := find(before, x); {
		case !ok:
			add(record.RouteLearned, x)
		case old.MTU != x.MTU:
			add(record.RouteChanged, x)
		}
	}
	for _, x := range before {
		if _, ok := find(now, x); !ok {
			add(record.RouteGone, x)
		}
	}
	return events
}
