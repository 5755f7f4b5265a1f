// Package watch looks at a machine again and again and tells what it sees there
// of path-MTU trouble: sockets that wait for a timer with nothing in flight,
// sockets that retransmit, connections whose segments are too long for what
// their kernel has learned, PMTU exceptions, ICMP. It only reads.
package watch

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/pmtulab/pmtulab/lab/diagnosis"
	"github.com/pmtulab/pmtulab/lab/evidence"
	"github.com/pmtulab/pmtulab/lab/record"
)

// Reader is where a Watcher looks; evidence.Machine is one.
type Reader interface {
	Glimpse(each func(evidence.Glimpse)) error
	Sample(local, remote netip.AddrPort) (record.Socket, error)
	Exceptions() ([]record.Exception, error)
	Counters() (map[string]int64, error)
}

// slow is how often exceptions and counters are read: they stay.
const slow = time.Second

// Watcher remembers what it has seen. It is for one goroutine.
type Watcher struct {
	reader Reader
	// waiting are the sockets that wait, stale those with too large an MTU, as
	// they were last seen.
	waiting, stale map[flow]seen
	exceptions     map[string]record.Exception
	counters       map[string]int64
	// looked is when exceptions and counters were read last.
	looked time.Time
	first  bool
}

type flow struct{ local, remote netip.AddrPort }

// seen is a sighting that goes on.
type seen struct {
	kind        record.SightingKind
	first, last time.Time
	socket      record.Socket
}

// New is a Watcher that has seen nothing yet: what is there at its first look
// it tells as well, but for counters.
func New(r Reader) *Watcher {
	return &Watcher{
		reader: r, waiting: map[flow]seen{}, stale: map[flow]seen{}, exceptions: map[string]record.Exception{}, first: true,
	}
}

// Look looks once, and returns what is new or over since the last time, in that
// order. Of what began and ended in between nothing is seen: the caller looks
// more often than the shortest stall is long, 200 ms.
func (w *Watcher) Look(now time.Time) ([]record.Sighting, error) {
	var (
		suspects []flow
		by       = map[netip.Addr][]flow{} // connections by remote address
		slowly   = now.Sub(w.looked) >= slow
	)
	err := w.reader.Glimpse(func(g evidence.Glimpse) {
		f := flow{g.Local, g.Remote}
		if slowly {
			by[g.Remote.Addr()] = append(by[g.Remote.Addr()], f)
		}
		probes := g.Timer == record.TimerProbe0
		retransmits := g.Timer == record.TimerRetransmit && g.Backoff > 0
		if g.Queue > 0 && (probes || retransmits) {
			suspects = append(suspects, f)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("look at the sockets: %w", err)
	}
	found := w.follow(now, &w.waiting, w.sample(suspects, waits))
	if !slowly {
		return found, nil
	}
	w.looked = now
	changes, err := w.lookAtExceptions(now, by)
	if err != nil {
		return found, err
	}
	moved, err := w.lookAtCounters(now)
	w.first = false
	return slices.Concat(found, changes, moved), err
}

// sample reads the sockets and keeps those that are of a kind; what has gone
// meanwhile is not.
func (w *Watcher) sample(flows []flow, kindOf func(record.Socket) record.SightingKind) map[flow]seen {
	out := map[flow]seen{}
	for _, f := range flows {
		socket, err := w.reader.Sample(f.local, f.remote)
		if err != nil {
			continue
		}
		if kind := kindOf(socket); kind != "" {
			out[f] = seen{kind: kind, socket: socket}
		}
	}
	return out
}

// waits is what a socket waits for, or nothing.
func waits(s record.Socket) record.SightingKind {
	switch {
	case diagnosis.Stalled(&s) && s.SendWindow > 0:
		return record.SightingStall
	case s.Timer == record.TimerProbe0:
		return record.SightingZeroWindow
	case s.Timer == record.TimerRetransmit && s.Unacked > 0:
		return record.SightingRetransmission
	}
	return ""
}

// follow compares what is seen now with what was seen before, and remembers it.
func (w *Watcher) follow(now time.Time, before *map[flow]seen, current map[flow]seen) []record.Sighting {
	var found []record.Sighting
	for _, f := range sorted(current) {
		s := current[f]
		s.first, s.last = now, now
		if old, ok := (*before)[f]; ok && old.kind == s.kind {
			s.first = old.first
		} else {
			found = append(found, w.sighting(now, s))
		}
		current[f] = s
	}
	for _, f := range sorted(*before) {
		old := (*before)[f]
		if s, ok := current[f]; ok && s.kind == old.kind {
			continue
		}
		over := w.sighting(now, old)
		over.Ended, over.Duration = true, record.Millis(old.last.Sub(old.first))
		found = append(found, over)
	}
	*before = current
	return found
}

func (w *Watcher) sighting(now time.Time, s seen) record.Sighting {
	return record.Sighting{Schema: record.SightingSchema, Time: now, Kind: s.kind, Socket: &s.socket}
}

func sorted(m map[flow]seen) []flow {
	return slices.SortedFunc(maps.Keys(m), func(a, b flow) int {
		if c := a.local.Compare(b.local); c != 0 {
			return c
		}
		return a.remote.Compare(b.remote)
	})
}

// lookAtExceptions tells which exceptions have come, changed or gone, and which
// connections do not go by them.
func (w *Watcher) lookAtExceptions(now time.Time, by map[netip.Addr][]flow) ([]record.Sighting, error) {
	list, err := w.reader.Exceptions()
	if err != nil {
		return nil, fmt.Errorf("look at the PMTU exceptions: %w", err)
	}
	current := map[string]record.Exception{}
	stale := map[flow]seen{}
	var found []record.Sighting
	for _, x := range list {
		key := fmt.Sprintf("%s %s", x.Destination, x.Device)
		current[key] = x
		too := w.sample(by[x.Destination], func(s record.Socket) record.SightingKind {
			if int(s.PMTU) > x.MTU {
				return record.SightingStaleRoute
			}
			return ""
		})
		maps.Copy(stale, too)
		if old, ok := w.exceptions[key]; !ok || old.MTU != x.MTU {
			found = append(found, record.Sighting{
				Schema: record.SightingSchema, Time: now, Kind: record.SightingException, Exception: &x, Stale: len(too),
			})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(w.exceptions)) {
		if _, ok := current[key]; !ok {
			x := w.exceptions[key]
			found = append(found, record.Sighting{
				Schema: record.SightingSchema, Time: now, Kind: record.SightingException, Ended: true, Exception: &x,
			})
		}
	}
	w.exceptions = current
	return append(found, w.follow(now, &w.stale, stale)...), nil
}

// lookAtCounters tells how the counters of ICMP have moved.
func (w *Watcher) lookAtCounters(now time.Time) ([]record.Sighting, error) {
	counters, err := w.reader.Counters()
	if err != nil {
		return nil, fmt.Errorf("look at the counters: %w", err)
	}
	before := w.counters
	w.counters = counters
	if w.first || counters == nil {
		return nil, nil
	}
	moved := func(name string) int64 { return counters[name] - before[name] }
	c := record.ICMPCount{
		Received: moved("Icmp.InDestUnreachs"), Sent: moved("Icmp.OutDestUnreachs"), Refused: moved("Ip.FragFails"),
	}
	if c.Received == 0 && c.Sent == 0 && c.Refused == 0 {
		return nil, nil
	}
	c.SelfMade = max(0, min(c.Received, c.Sent, c.Refused))
	return []record.Sighting{{Schema: record.SightingSchema, Time: now, Kind: record.SightingICMP, ICMP: &c}}, nil
}

// ErrInterval is the error of an interval at which stalls would be missed.
var ErrInterval = errors.New("must be from 5 ms to 200 ms, the length of the shortest stall")

// CheckInterval checks how often the caller means to look.
func CheckInterval(d time.Duration) error {
	if d < 5*time.Millisecond || d > 200*time.Millisecond {
		return ErrInterval
	}
	return nil
}
