package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab"
	"github.com/pmtulab/pmtulab/lab/diagnosis"
	"github.com/pmtulab/pmtulab/lab/evidence"
	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/traffic"
)

// Options of a run. The zero value is fit for use.
type Options struct {
	// Settings are recorded in the result; Parse has applied them already.
	Settings map[string]string
	// Runtime tells where the run happens; Kernel is filled in by Run.
	Runtime record.Runtime
	// OwnMachine tells that the machine serves this run alone, as a guest does:
	// sysctls that are not a namespace's may then be written.
	OwnMachine bool
	// Progress is told what happens, one line at a time.
	Progress func(line string)
	// Checkpoint receives what is known so far, after each step: should the
	// machine die, the last one is the partial result.
	Checkpoint func(record.Result)
	// Capture receives the packets of the run and the secrets of its TLS
	// connections, just before Run returns; nil keeps neither. It is not called
	// when the run ended before there was anything to see.
	Capture func(record.Capture)
	// Redact leaves payload and secrets out of Capture.
	Redact bool
	// Observed is called once the network is up, before any traffic. The lab
	// is closed when Run returns.
	Observed func(*lab.Lab) error
}

// Run makes the experiment on this kernel. It always returns a result: where
// the lab fails, with the verdict unsupported or error, the reason, and what
// was measured until then, marked as partial.
func Run(ctx context.Context, s Scenario, o Options) record.Result {
	r := &run{scenario: s, options: o, started: time.Now(), conns: map[string]*conn{}}
	r.result = record.Result{
		Schema: record.Schema, Scenario: s.Name, Verdict: record.Error, Partial: true,
		Started: r.started.UTC(), Runtime: o.Runtime, Settings: o.Settings,
		Requests: []record.Request{}, Stalls: []record.Stall{}, Exceptions: []record.Exception{},
		Counters: map[string]map[string]int64{}, Expectations: []record.Expectation{},
	}
	r.result.Runtime.Kernel = release()

	err := r.live(ctx)
	r.explain()
	r.result.Duration = r.now()
	r.judge(err)
	if r.capture != nil {
		r.capture.Names = names(s.Topology)
		r.capture.Secrets = r.secrets.Bytes()
		o.Capture(*r.capture)
	}
	return r.result
}

// run is a scenario under way.
type run struct {
	scenario Scenario
	options  Options
	started  time.Time
	result   record.Result

	lab      *lab.Lab
	observer *evidence.Observer
	ca       *traffic.CA
	servers  []*traffic.Server
	conns    map[string]*conn
	before   evidence.Counters
	// counters are the names that this kernel counts.
	counters []string
	// capture is set at the end when it was asked for; secrets are of the TLS
	// connections made so far.
	capture *record.Capture
	secrets bytes.Buffer
	// machineLifetime is mtu_expires of the machine before this run changed it,
	// empty when it did not.
	machineLifetime string
}

// conn is a connection of the scenario, alive.
type conn struct {
	traffic *traffic.Conn
	from    *lab.Node
	record  record.Connection
	// quiet is the wire socket as it was when it was proven quiet.
	quiet *record.Socket
}

func (r *run) now() record.Ms { return record.Millis(time.Since(r.started)) }

func (r *run) at(t time.Time) record.Ms { return record.Millis(t.Sub(r.started)) }

func (r *run) progress(format string, args ...any) {
	if r.options.Progress != nil {
		r.options.Progress(fmt.Sprintf(format, args...))
	}
}

// phase adds the time since *since to the result and moves *since on.
func (r *run) phase(name string, since *time.Time) {
	now := time.Now()
	r.result.Phases = append(r.result.Phases, record.Phase{Name: name, Ms: record.Millis(now.Sub(*since))})
	*since = now
}

// live builds the network, makes the traffic, and takes everything down.
func (r *run) live(ctx context.Context) (err error) {
	clock := time.Now()
	if err := r.calibrate(ctx); err != nil {
		return err
	}
	r.phase("clock", &clock)
	r.progress("build the network %s", r.scenario.Topology.Name)
	r.result.Drawing = r.scenario.Topology.Draw()
	if r.lab, err = lab.Up(ctx, r.scenario.Topology); err != nil {
		return fmt.Errorf("build the network: %w", err)
	}
	defer func() {
		clock := time.Now()
		r.progress("take the network down")
		err = errors.Join(err, r.lab.Close())
		r.phase("take down", &clock)
	}()
	defer r.hangUp()
	r.result.Links = links(r.lab)
	r.phase("build", &clock)

	defer func() { err = errors.Join(err, r.resetLifetime()) }()
	if r.result.Lifetimes, err = r.lifetimes(); err != nil {
		return err
	}
	if r.observer, err = evidence.Start(ctx, r.observation()); err != nil {
		return fmt.Errorf("observe the network: %w", err)
	}
	defer func() { err = errors.Join(err, r.gather()) }()
	if r.options.Observed != nil {
		if err := r.options.Observed(r.lab); err != nil {
			return err
		}
	}
	r.phase("observe", &clock)

	if err := r.serve(ctx); err != nil {
		return err
	}
	if r.before, err = r.observer.Snapshot(); err != nil {
		return fmt.Errorf("read the counters: %w", err)
	}
	r.phase("serve", &clock)

	for i, step := range r.scenario.Steps {
		if err := r.step(ctx, step); err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
		r.checkpoint()
	}
	r.result.Partial = false
	r.phase("steps", &clock)
	return nil
}

// calibrate measures the clock while nothing of ours runs yet. A run goes on
// with an unfit one: what does not depend on time is shown all the same.
func (r *run) calibrate(ctx context.Context) error {
	r.progress("measure the clock")
	c, err := evidence.Calibrate(ctx)
	if err != nil {
		return fmt.Errorf("measure the clock: %w", err)
	}
	r.result.Clock = &c
	for _, why := range c.Unfit() {
		r.lose(record.ClockLoss, "", 1, why)
	}
	return nil
}

// serve starts the servers.
func (r *run) serve(ctx context.Context) error {
	var err error
	if r.ca, err = traffic.NewCA(serverAddresses(r.scenario)...); err != nil {
		return fmt.Errorf("prepare TLS: %w", err)
	}
	r.progress("start the servers")
	for _, server := range r.scenario.Servers {
		node := r.lab.Node(server.Node)
		s, err := traffic.Serve(ctx, node, server.Address.String(), r.ca, traffic.TLS{})
		if err != nil {
			return fmt.Errorf("start the server in %s: %w", server.Node, err)
		}
		r.servers = append(r.servers, s)
		r.observer.Mark("check the server in " + server.Node)
		if err := r.check(ctx, node, server.Address); err != nil {
			return fmt.Errorf("check the server in %s: %w", server.Node, err)
		}
	}
	return nil
}

// check makes a request to a server from its own node: it proves that the
// server answers, before anything is measured.
func (r *run) check(ctx context.Context, node *lab.Node, address netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	c, err := traffic.Open(ctx, node, r.ca, traffic.Options{Address: address.String(), KeyLog: r.keyLog()})
	if err != nil {
		return err //nolint:wrapcheck // wrapped by the caller
	}
	_, err = c.Request(ctx, traffic.MinRequest)
	return errors.Join(err, c.Close())
}

// gather stops the observer and puts what it saw into the result.
func (r *run) gather() error {
	var errs []error
	if r.before != nil {
		after, err := r.observer.Snapshot()
		if err != nil {
			errs = append(errs, fmt.Errorf("read the counters: %w", err))
		} else {
			r.result.Counters = evidence.Delta(r.before, after)
			names := map[string]bool{}
			for _, counters := range after {
				for name := range counters {
					names[name] = true
				}
			}
			r.counters = slices.Sorted(maps.Keys(names))
		}
	}
	seen, err := r.observer.Stop()
	if err != nil {
		errs = append(errs, fmt.Errorf("gather the evidence: %w", err))
	}
	r.result.Timeline, r.result.Exceptions = seen.Events, seen.Exceptions
	r.result.Losses = append(r.result.Losses, seen.Losses...)
	r.result.Figures, r.result.Probes = seen.Figures, seen.Probes
	r.capture = seen.Capture
	return errors.Join(errs...)
}

// hangUp closes connections and servers. What fails here is of no consequence:
// the network that they live in goes next, and that failure is reported.
func (r *run) hangUp() {
	for _, c := range r.conns {
		_ = c.traffic.Close()
	}
	for _, s := range r.servers {
		_ = s.Close()
	}
}

func (r *run) checkpoint() {
	if r.options.Checkpoint != nil {
		partial := r.result
		partial.Duration = r.now()
		partial.Reasons = []string{"the run ended before its last step"}
		r.options.Checkpoint(partial)
	}
}

// explain joins events with connections and classifies the requests.
func (r *run) explain() {
	for _, c := range r.conns {
		label(&c.record, r.result.Timeline)
	}
	for i := range r.result.Requests {
		request := &r.result.Requests[i]
		c := r.conns[request.Connection.Name]
		request.Connection = c.record
		d := diagnosis.Classify(diagnosis.Case{Request: *request, Client: c.from.Name(), Events: r.result.Timeline})
		request.Class, request.ClassReasons = d.Class, d.Reasons
		if d.Stall != nil {
			r.result.Stalls = append(r.result.Stalls, *d.Stall)
		}
	}
	r.result.Arithmetic = diagnosis.Arithmetic(r.result)
	r.result.Conclusion = diagnosis.Conclude(r.result)
}

// judge checks the expectations and sets the verdict.
func (r *run) judge(err error) {
	var missing *lab.MissingError
	switch {
	case errors.As(err, &missing):
		r.result.Verdict, r.result.Reasons = record.Unsupported, append(r.result.Reasons, err.Error())
		return
	case err != nil:
		r.result.Verdict, r.result.Reasons = record.Error, append(r.result.Reasons, err.Error())
		return
	}
	r.result.Verdict = record.Pass
	for _, e := range r.scenario.Expect {
		if loss, ok := e.unfit(r.result); ok {
			r.result.Losses = append(r.result.Losses, loss)
		}
		for _, checked := range e.check(r.result, r.counters) {
			r.result.Expectations = append(r.result.Expectations, checked)
			if !checked.OK {
				r.result.Verdict = record.Fail
				r.result.Reasons = append(r.result.Reasons, fmt.Sprintf("%s: expected %s, measured %s", checked.Name, checked.Limit, checked.Actual))
			}
		}
	}
	for _, loss := range r.result.Losses {
		if !r.result.Matters(loss) {
			continue
		}
		r.result.Verdict = record.Inconclusive
		r.result.Reasons = append(r.result.Reasons, loss.String())
	}
}

// release is the running kernel's release, uname -r.
func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// tick is the resolution of the kernel's timers, 1/HZ: the coarse clock
// advances once a tick.
func tick() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &ts); err != nil {
		return 10 * time.Millisecond
	}
	return time.Duration(ts.Nano())
}
