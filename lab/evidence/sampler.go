package evidence

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pmtulab/pmtulab/lab/record"
)

// sampler reads the watched sockets at an interval for as long as there are
// any, and keeps the samples that say something new.
type sampler struct {
	clock    *clock
	interval time.Duration
	// gap is the longest time between two samples of a stalled socket that
	// is not called a loss.
	gap time.Duration
	// wake tells the loop that there is something to watch.
	wake chan struct{}

	mu      sync.Mutex
	nodes   map[string]*netlinkSocket
	watches []*watch
	// watched are the nodes of all watches, past ones included.
	watched map[string]bool
	events  []record.Event
	losses  []record.Loss
	samples int
	longest record.Ms
	busy    time.Duration
}

// watch is one socket under observation.
type watch struct {
	node          string
	connection    string
	leg           record.LegName
	local, remote netip.AddrPort
	request       []byte
	// last is the latest sample, taken at the moment at, when seen.
	seen bool
	last record.Socket
	at   record.Ms
	// gaps counts those during a stall that were too long, up to longest.
	gaps    int
	longest record.Ms
}

func newSampler(clock *clock, interval, gap time.Duration) *sampler {
	return &sampler{
		clock: clock, interval: interval, gap: gap,
		wake: make(chan struct{}, 1), nodes: map[string]*netlinkSocket{}, watched: map[string]bool{},
	}
}

// run samples until ctx ends. Without watches it sleeps.
func (s *sampler) run(ctx context.Context) {
	ticker := time.NewTicker(s.interval)
	defer ticker.Stop()
	for {
		ticker.Stop()
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		ticker.Reset(s.interval)
		for s.sampleAll() {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	}
}

// sampleAll samples every watched socket and tells whether any is left.
func (s *sampler) sampleAll() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watches = slices.DeleteFunc(s.watches, func(w *watch) bool {
		alive := s.sample(w)
		if !alive {
			s.end(w)
		}
		return !alive
	})
	return len(s.watches) > 0
}

// watch begins to observe a socket, with one sample at once: it precedes
// whatever the caller does next.
func (s *sampler) watch(w *watch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.request = socketRequest(w.local, w.remote)
	if _, ok := s.nodes[w.node]; !ok {
		s.lose(w, 1, ErrNotObserved.Error())
		return
	}
	s.watched[w.node] = true
	if !s.sample(w) {
		return
	}
	s.watches = append(s.watches, w)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// hasWatched tells whether a socket of the node is watched, or was.
func (s *sampler) hasWatched(node string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watched[node]
}

// unwatch ends the observation of a socket with a last sample.
func (s *sampler) unwatch(local, remote netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watches = slices.DeleteFunc(s.watches, func(w *watch) bool {
		if w.local != local || w.remote != remote {
			return false
		}
		s.sample(w)
		s.end(w)
		return true
	})
}

// one samples a socket of a node outside any watch.
func (s *sampler) one(node string, local, remote netip.AddrPort) (record.Socket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	diag, ok := s.nodes[node]
	if !ok {
		return record.Socket{}, ErrNotObserved
	}
	return sampleSocket(diag, socketRequest(local, remote))
}

// sample reads one socket and keeps what is worth it. It returns false when
// the watch is over. The caller holds mu.
func (s *sampler) sample(w *watch) bool {
	start := time.Now()
	now, err := sampleSocket(s.nodes[w.node], w.request)
	took := time.Since(start)
	s.busy += took
	if err != nil {
		if !errors.Is(err, ErrNoSocket) {
			s.lose(w, 1, err.Error())
		}
		return false
	}
	s.samples++
	// The kernel read the socket some time within the call.
	at := record.Millis(start.Sub(s.clock.origin) + took/2)
	if w.seen {
		gap := record.Millis(at.Duration() - w.at.Duration())
		s.longest = max(s.longest, gap)
		if gap.Duration() > s.gap {
			w.gaps, w.longest = w.gaps+1, max(w.longest, gap)
		}
	}
	if !w.seen || stalled(now) || changed(w.last, now) {
		s.events = append(s.events, record.Event{
			At: at, Node: w.node, Connection: w.connection, Leg: w.leg,
			Socket: &now, Text: socketText(now),
		})
	}
	w.seen, w.last, w.at = true, now, at
	return true
}

// end reports the gaps of a watch that is over.
func (s *sampler) end(w *watch) {
	if w.gaps > 0 {
		s.lose(w, w.gaps, fmt.Sprintf("no sample for up to %.1f ms, the machine is too busy to be a witness", w.longest))
	}
}

func (s *sampler) lose(w *watch, count int, detail string) {
	s.losses = append(s.losses, record.Loss{
		Source: "sockets", Node: w.node, Count: count,
		Detail: fmt.Sprintf("socket %s to %s: %s", w.local, w.remote, detail),
	})
}

// stalled is the signature of the stall that the lab is about: data to send,
// nothing in flight, and only the zero-window probe timer to send it.
func stalled(s record.Socket) bool {
	return s.Timer == record.TimerProbe0 && s.Unacked == 0 && s.NotSent > 0
}

// changed tells whether anything but the time left on the timer differs.
func changed(a, b record.Socket) bool {
	a.Expires, b.Expires = 0, 0
	return a != b
}

// finish ends all watches and puts what was seen into e.
func (s *sampler) finish(e *Evidence) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.watches {
		s.end(w)
	}
	s.nodes, s.watches = nil, nil
	e.Events = append(e.Events, s.events...)
	e.Losses = append(e.Losses, s.losses...)
	e.Figures.Samples = s.samples
	e.Figures.MaxGap = s.longest
	e.Figures.Sampling = record.Millis(s.busy)
}
