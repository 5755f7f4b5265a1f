package evidence

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab/record"
)

// Config says what to observe. Zero values stand for the defaults.
type Config struct {
	// Nodes are observed from Start to Stop. Their names differ.
	Nodes []Node
	// Origin is the moment that all others count from. It must come from
	// time.Now, for the monotonic reading; default: the time of Start.
	Origin time.Time
	// Interfaces names the interfaces to capture packets on, by node; a node
	// that is not in it is captured on all of them, lo and tunnels included.
	Interfaces map[string][]string
	// SampleInterval is between two samples of a watched socket. The default
	// of 3 ms gives some 70 samples of the shortest stall of 200 ms.
	SampleInterval time.Duration
	// SampleGap is the longest time between two samples of a watched socket
	// that is not reported as a loss. When the sampler does not get to run,
	// neither does what it watches, and no time that was measured can be
	// trusted. Default: 50 ms, a quarter of the shortest stall.
	SampleGap time.Duration
	// MaxPackets bounds the packets kept of each node, and so the memory: one
	// takes about 0.5 KiB. Those beyond it are reported as a loss.
	// Default: 100,000.
	MaxPackets int
	// SnapLength is how many bytes of each packet, link header included, to
	// keep for Evidence.Capture, 16 KiB at most; 0 keeps none. Those of all
	// nodes take at most 32 MiB; what does not fit is counted.
	SnapLength int
	// HeadersOnly leaves the payload of packets out of Evidence.Capture, also
	// of those that others quote.
	HeadersOnly bool
	// Functions has calls of kernel functions in the nodes observed, where this
	// machine lets them be probed; Evidence.Probes tells. The probes cost the
	// whole machine some microseconds for each call.
	Functions bool
}

// drainInterval is how often the packet rings are emptied: 8192 packets in it,
// half a ring, are 400,000 a second, 1024 are 50,000.
const drainInterval = 20 * time.Millisecond

// maxStep is the largest jump of the wall clock that leaves packets usable:
// they are compared with samples and writes to a millisecond.
const maxStep = time.Millisecond

// Evidence is what an Observer saw.
type Evidence struct {
	// Events are packets, samples, calls and steps in time order. Their ids
	// (P1, S1, K1, T1, …) count up in the same order.
	Events []record.Event
	// Exceptions are the PMTU exceptions of all nodes at the time of Stop.
	Exceptions []record.Exception
	// Losses is empty when the evidence is complete.
	Losses  []record.Loss
	Figures record.Figures
	// Probes tells which functions were watched; nil without Config.Functions.
	Probes *record.Probes
	// Capture holds the packets themselves; nil without Config.SnapLength.
	Capture *record.Capture
}

// Observer watches nodes from Start until Stop. Its methods may be called from
// any goroutine.
type Observer struct {
	clock   clock
	steal   steal
	sampler *sampler
	sources []*source
	frames  *frames
	// functions is nil when nobody asked for them.
	functions *functions
	cancel    context.CancelFunc
	workers   sync.WaitGroup

	// mu guards all below and the sources' packets and counter files.
	mu       sync.Mutex
	stopped  bool
	steps    []record.Event
	draining time.Duration
}

// source is all that is open in one node.
type source struct {
	name     string
	packets  *capture
	routes   *netlinkSocket
	counters *counterFiles
	diag     *netlinkSocket
	learned  routeWatch
}

// ErrStopped is the error of an Observer that has been stopped.
var ErrStopped = errors.New("the observer was stopped")

// Start begins to observe. It needs CAP_NET_RAW in the nodes. The caller calls
// Stop, also after ctx has ended, which ends sampling.
func Start(ctx context.Context, c Config) (*Observer, error) {
	if c.Origin.IsZero() {
		c.Origin = time.Now()
	}
	o := &Observer{}
	var err error
	if o.clock, err = newClock(c.Origin); err != nil {
		return nil, err
	}
	if o.steal, err = readSteal(); err != nil {
		return nil, err
	}
	o.sampler = newSampler(&o.clock, cmp.Or(c.SampleInterval, 3*time.Millisecond), cmp.Or(c.SampleGap, 50*time.Millisecond))
	slot := slotSize(c.SnapLength)
	if c.HeadersOnly {
		slot = headerSlot
	}
	if c.SnapLength > 0 {
		o.frames = newFrames(c.SnapLength, c.HeadersOnly)
	}
	for _, n := range c.Nodes {
		s := &source{name: n.Name()}
		o.sources = append(o.sources, s)
		err := n.Do(func() error {
			return s.open(capture{
				node: s.name, only: c.Interfaces[s.name], most: cmp.Or(c.MaxPackets, 100_000),
				slots: ringSlots(len(c.Nodes), slot), slotSize: slot, frames: o.frames,
			})
		})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("observe %s: %w", s.name, err), o.closeSources())
		}
		o.sampler.nodes[s.name] = s.diag
	}
	if c.Functions {
		o.functions = watchFunctions(c.Nodes)
	}
	ctx, o.cancel = context.WithCancel(ctx)
	o.workers.Go(func() { o.sampler.run(ctx) })
	o.workers.Go(func() { o.drainUntil(ctx) })
	return o, nil
}

func (s *source) open(packets capture) (err error) {
	if s.counters, err = openCounters(); err != nil {
		return err
	}
	if s.routes, err = openRoutes(); err != nil {
		return err
	}
	if s.diag, err = openNetlink(unix.NETLINK_SOCK_DIAG); err != nil {
		return err
	}
	s.packets, err = openCapture(packets)
	return err
}

func (s *source) close() error {
	var errs []error
	if s.counters != nil {
		s.counters.close()
	}
	if s.routes != nil {
		errs = append(errs, s.routes.close())
	}
	if s.diag != nil {
		errs = append(errs, s.diag.close())
	}
	if s.packets != nil {
		errs = append(errs, s.packets.close())
	}
	return errors.Join(errs...)
}

func (o *Observer) closeSources() error {
	var errs []error
	for _, s := range o.sources {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}

func (o *Observer) drainUntil(ctx context.Context) {
	ticker := time.NewTicker(drainInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		o.mu.Lock()
		o.drain()
		o.lookAtRoutes()
		o.mu.Unlock()
	}
}

// lookAtRoutes looks at the exceptions of the nodes whose sockets are watched.
// The caller holds mu.
func (o *Observer) lookAtRoutes() {
	for _, s := range o.sources {
		if o.sampler.hasWatched(s.name) {
			s.learned.look(&o.clock, s)
		}
	}
}

// drain empties the rings. The caller holds mu.
func (o *Observer) drain() {
	start := time.Now()
	packets := 0
	for _, s := range o.sources {
		s.packets.drain()
		packets += s.packets.captured
	}
	o.functions.drain(packets)
	o.draining += time.Since(start)
}

// Mark records a step of the scenario at this moment.
func (o *Observer) Mark(text string) {
	at := o.clock.now()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.steps = append(o.steps, record.Event{At: at, Text: text})
}

// Watch samples the TCP socket of n with these addresses, once before Watch
// returns and then at the interval, until Unwatch. A socket that goes away
// ends its watch; one that cannot be sampled is reported as a loss.
func (o *Observer) Watch(n Node, connection string, leg record.LegName, local, remote netip.AddrPort) {
	o.sampler.watch(&watch{node: n.Name(), connection: connection, leg: leg, local: local, remote: remote})
}

// Unwatch takes a last sample of the socket and samples it no more.
func (o *Observer) Unwatch(local, remote netip.AddrPort) { o.sampler.unwatch(local, remote) }

// Sample reads a TCP socket of an observed node once. The sample is not among
// the events. The error is ErrNoSocket when the node has no such socket.
func (o *Observer) Sample(n Node, local, remote netip.AddrPort) (record.Socket, error) {
	s, err := o.sampler.one(n.Name(), local, remote)
	if err != nil {
		return s, fmt.Errorf("sample socket %s to %s of %s: %w", local, remote, n.Name(), err)
	}
	return s, nil
}

// Snapshot reads the counters of all nodes.
func (o *Observer) Snapshot() (Counters, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stopped {
		return nil, ErrStopped
	}
	counters := make(Counters, len(o.sources))
	for _, s := range o.sources {
		read, err := s.counters.read()
		if err != nil {
			return nil, fmt.Errorf("read the counters of %s: %w", s.name, err)
		}
		counters[s.name] = read
	}
	return counters, o.functions.check(o.clock.now())
}

// Exceptions dumps the PMTU exceptions of all nodes, see the function of that
// name.
func (o *Observer) Exceptions() ([]record.Exception, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stopped {
		return nil, ErrStopped
	}
	return o.exceptions()
}

func (o *Observer) exceptions() ([]record.Exception, error) {
	found := []record.Exception{}
	for _, s := range o.sources {
		some, err := dumpExceptions(s.routes, s.name)
		if err != nil {
			return found, fmt.Errorf("read the PMTU exceptions of %s: %w", s.name, err)
		}
		found = append(found, some...)
	}
	return found, nil
}

// Stop ends the observation, closes everything that Start opened and returns
// what was seen. Every packet that a node sent or received before the call is
// in it, or counted as lost. With an error, the evidence that could be had is
// returned all the same.
func (o *Observer) Stop() (Evidence, error) {
	o.cancel()
	o.workers.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stopped {
		return Evidence{}, ErrStopped
	}
	o.stopped = true
	o.drain()

	var e Evidence
	var errs []error
	step, uncertainty, err := o.clock.step()
	errs = append(errs, err)
	if step.Abs() > maxStep+uncertainty {
		e.Losses = append(e.Losses, record.Loss{
			Source: "packets", Count: 1,
			Detail: fmt.Sprintf("the wall clock was set by %v: times of packets are not comparable", step),
		})
	}
	steal, err := readSteal()
	errs = append(errs, err)
	e.Figures.Steal = steal.since(o.steal)
	if e.Exceptions, err = o.exceptions(); err != nil {
		errs = append(errs, err)
	}
	o.lookAtRoutes()
	e.Events = o.steps
	for _, s := range o.sources {
		e.Events = append(e.Events, s.packets.events(&o.clock)...)
		e.Events = append(e.Events, s.learned.events...)
		e.Losses = append(e.Losses, s.learned.losses(s.name)...)
		e.Figures.Sampling += record.Millis(s.learned.busy)
		e.Figures.Packets += s.packets.captured
		e.Figures.NotIPv4 += s.packets.notIPv4
		losses, err := s.packets.losses()
		errs = append(errs, err)
		e.Losses = append(e.Losses, losses...)
	}
	sampling := e.Figures.Sampling
	o.sampler.finish(&e)
	e.Figures.Sampling += sampling
	if o.functions != nil {
		errs = append(errs, o.functions.finish(&e, &o.clock))
	}
	e.Figures.Alignment = record.Millis(step.Abs() + uncertainty)
	e.Figures.Draining = record.Millis(o.draining)
	order(e.Events)
	if o.frames != nil {
		e.Capture = o.frames.capture(o.sources, e.Events)
	}
	errs = append(errs, o.closeSources())
	return e, errors.Join(errs...)
}

// order sorts events by time and numbers them.
func order(events []record.Event) {
	slices.SortStableFunc(events, func(a, b record.Event) int { return cmp.Compare(a.At, b.At) })
	var packets, samples, routes, calls, steps int
	number := func(letter string, n *int) string {
		*n++
		return letter + strconv.Itoa(*n)
	}
	for i := range events {
		switch e := &events[i]; {
		case e.Packet != nil:
			e.ID = number("P", &packets)
		case e.Socket != nil:
			e.ID = number("S", &samples)
		case e.Route != nil:
			e.ID = number("R", &routes)
		case e.Call != nil:
			e.ID = number("K", &calls)
		default:
			e.ID = number("T", &steps)
		}
	}
}
