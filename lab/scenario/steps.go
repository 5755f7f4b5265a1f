// The steps of a scenario, one function for each.

package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pmtulab/pmtulab/lab"
	"github.com/pmtulab/pmtulab/lab/evidence"
	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/sidecar"
	"github.com/pmtulab/pmtulab/lab/traffic"
	"github.com/pmtulab/pmtulab/lab/wait"
)

// Limits of one step. They are far beyond anything that is measured: a step
// that reaches one has failed.
const (
	openTimeout    = 10 * time.Second
	requestTimeout = 20 * time.Second
	quietTimeout   = 5 * time.Second
	// expireTimeout is beyond the time that the exception has left.
	expireTimeout = 10 * time.Second
)

func (r *run) step(ctx context.Context, step Step) error {
	switch {
	case step.Open != "":
		return r.open(ctx, step.Open)
	case len(step.Quiet) > 0:
		for _, name := range step.Quiet {
			if err := r.quiet(ctx, name); err != nil {
				return err
			}
		}
		return nil
	case step.Request != nil:
		return r.request(ctx, *step.Request)
	case step.Mitigate != "":
		return r.mitigate(step.Mitigate)
	case step.Expire != nil:
		return r.expire(ctx, *step.Expire)
	case step.Idle > 0:
		r.progress("idle for %v", step.Idle)
		r.observer.Mark(fmt.Sprintf("idle for %v", step.Idle))
		return wait.For(ctx, step.Idle)
	default:
		return errors.New("nothing to do in it")
	}
}

func (r *run) open(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	spec := r.scenario.connection(name)
	r.progress("open connection %s to %s", name, spec.To)
	r.observer.Mark("open connection " + name)
	from := r.lab.Node(spec.From)
	t, err := traffic.Open(ctx, from, r.ca, traffic.Options{
		Address: spec.To.String(), TLS: traffic.TLS{PostQuantum: spec.PostQuantum}, KeyLog: r.keyLog(),
	})
	if err != nil {
		if connect := refused(ctx, from, err); connect != nil {
			err = fmt.Errorf("%w, because the %w", err, connect)
		}
		return fmt.Errorf("open connection %s from %s: %w; check that the scenario's servers has %s on each real server", name, spec.From, err, spec.To)
	}
	c := &conn{traffic: t, from: from, record: record.Connection{Name: name, App: record.Leg{Local: t.Local, Remote: t.Remote}}}
	r.conns[name] = c
	if proxy := from.Sidecar(); proxy != nil {
		proxied, err := proxy.AwaitConnection(ctx, t.Local)
		if err != nil {
			return fmt.Errorf("find the upstream leg of connection %s: %w", name, err)
		}
		c.record.Upstream = &record.Leg{Local: proxied.UpstreamLocal, Remote: proxied.UpstreamRemote}
	}
	return nil
}

// refused is why the sidecar of a node made no upstream connection for an
// application that failed with err, if that is so: the application itself only
// sees its own connection closed.
func refused(ctx context.Context, n *lab.Node, err error) error {
	var handshake *traffic.HandshakeError
	if n.Sidecar() == nil || !errors.As(err, &handshake) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var connect *sidecar.ConnectError
	if _, err := n.Sidecar().AwaitConnection(ctx, handshake.Local); errors.As(err, &connect) {
		return connect
	}
	return nil
}

// settle is how long a socket must stay unchanged to be called quiet: longer
// than a delayed acknowledgement takes (TCP_DELACK_MIN is 40 ms; a fresh
// connection does not use more).
const settle = 60 * time.Millisecond

// errNotQuiet marks a request whose socket sent something after it was proven
// quiet: its next transmit looked the route up, and the outcome says nothing.
var errNotQuiet = errors.New("socket was not quiet")

func (r *run) quiet(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, quietTimeout)
	defer cancel()
	c := r.conns[name]
	var last record.Socket
	since := time.Now()
	err := wait.Until(ctx, "connection "+name+" to be quiet", 5*time.Millisecond, func() error {
		now, err := r.sample(c)
		if err != nil {
			return err
		}
		if now.SegsOut != last.SegsOut || now.SegsIn != last.SegsIn || now.Unacked > 0 {
			since = time.Now()
		}
		last = now
		if idle := time.Since(since); idle < settle {
			return fmt.Errorf("%d unacked, %d segments out, %d in, unchanged for %v", now.Unacked, now.SegsOut, now.SegsIn, idle.Round(time.Millisecond))
		}
		return nil
	})
	if err != nil {
		return err
	}
	c.quiet = &last
	r.observer.Mark(fmt.Sprintf("connection %s is quiet: nothing in flight, %d segments sent so far", name, last.SegsOut))
	return nil
}

// sample reads the wire socket of c.
func (r *run) sample(c *conn) (record.Socket, error) {
	wire := c.record.Wire()
	s, err := r.observer.Sample(c.from, wire.Local, wire.Remote)
	if err != nil {
		return s, fmt.Errorf("sample the socket of connection %s: %w", c.record.Name, err)
	}
	return s, nil
}

func (r *run) request(ctx context.Context, step RequestStep) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(step.Timeout, requestTimeout))
	defer cancel()
	c, name := r.conns[step.Connection], step.name()
	leg := record.AppLeg
	if c.record.Upstream != nil {
		leg = record.UpstreamLeg
	}
	before, err := r.observer.Snapshot()
	if err != nil {
		return fmt.Errorf("read the counters before request %s: %w", name, err)
	}
	now, err := r.sample(c)
	if err != nil {
		return err
	}
	if c.quiet != nil && now.SegsOut != c.quiet.SegsOut {
		r.lose("sockets", c.from.Name(), int(now.SegsOut-c.quiet.SegsOut),
			fmt.Sprintf("connection %s sent segments after it was proven quiet, before request %s: %v", c.record.Name, name, errNotQuiet))
	}
	c.quiet = nil
	size := step.Bytes
	if size == 0 {
		size = step.Segments * int(now.SendMSS)
	}
	r.progress("request %s: %d bytes on connection %s", name, size, step.Connection)
	r.observer.Mark(fmt.Sprintf("request %s: write %d bytes", name, size))
	wire := c.record.Wire()
	r.observer.Watch(c.from, c.record.Name, leg, wire.Local, wire.Remote)
	x, err := c.traffic.Request(ctx, size)
	ended := r.now()
	r.observer.Unwatch(wire.Local, wire.Remote)

	request := record.Request{
		Name: name, Connection: c.record, Bytes: x.Bytes, SendMSS: int(now.SendMSS), PMTU: int(now.PMTU), Ended: ended,
		Connect: record.Millis(c.traffic.Connect), Handshake: record.Millis(c.traffic.Handshake), Status: x.Status,
	}
	if !x.Wrote.IsZero() {
		request.Wrote = r.at(x.Wrote)
	}
	if !x.FirstByte.IsZero() {
		request.FirstByte = record.Millis(x.FirstByte.Sub(x.Wrote))
	}
	if !x.Done.IsZero() {
		request.Latency = record.Millis(x.Latency())
		request.Ended = r.at(x.Done)
	}
	if err != nil {
		request.Failure = err.Error()
		if errors.Is(err, traffic.ErrShape) || errors.Is(err, traffic.ErrRedial) {
			r.lose("traffic", c.from.Name(), 1, err.Error())
		}
	}
	after, err := r.observer.Snapshot()
	if err != nil {
		return fmt.Errorf("read the counters after request %s: %w", name, err)
	}
	request.Counters = evidence.Delta(before, after)
	r.result.Requests = append(r.result.Requests, request)
	return nil
}

func (r *run) lose(source, node string, n int, detail string) {
	r.result.Losses = append(r.result.Losses, record.Loss{Source: source, Node: node, Count: n, Detail: detail})
}

// mitigate makes the change of a mitigation.
func (r *run) mitigate(name string) error {
	m := r.scenario.Mitigations[slices.IndexFunc(r.scenario.Mitigations, func(m Mitigation) bool { return m.Name == name })]
	r.progress("%s: %s", m.Name, m.Command)
	for _, route := range m.Routes {
		if err := r.lab.Node(route.Node).ReplaceRoute(route.Route); err != nil {
			return fmt.Errorf("mitigation %s: %w", name, err)
		}
	}
	for _, d := range m.Devices {
		if err := r.lab.Node(d.Node).SetMTU(d.Name, d.MTU); err != nil {
			return fmt.Errorf("mitigation %s: %w", name, err)
		}
	}
	r.observer.Mark(m.Name + ": " + m.Command)
	r.result.Mitigations = append(r.result.Mitigations, record.Mitigation{
		Name: m.Name, Command: m.Command, Note: m.Note, At: r.now(), Live: len(r.conns) > 0,
	})
	return nil
}

// expire waits until an exception is no longer in the kernel's dump, and one
// tick more. No route is looked up. In the tick in which an exception ends,
// routes are free of its mtu already (time_after_eq in ipv4_mtu) but a look-up
// does not delete it yet (time_after in find_exception): what then happens is
// neither the one nor the other.
func (r *run) expire(ctx context.Context, step ExpireStep) error {
	left := func() (int, bool, error) {
		all, err := r.observer.Exceptions()
		if err != nil {
			return 0, false, fmt.Errorf("watch the exception: %w", err)
		}
		x := find(all, func(x record.Exception) bool { return x.Node == step.Node && x.Destination == step.Exception })
		if x == nil {
			return 0, false, nil
		}
		return x.ExpiresS, true, nil
	}
	what := fmt.Sprintf("the PMTU exception of %s for %s", step.Node, step.Exception)
	seconds, there, err := left()
	if err != nil {
		return err
	}
	if !there {
		return fmt.Errorf("%s: it is not there; make a request that is too long for the path first", what)
	}
	r.progress("wait until %s has expired, %d s", what, seconds)
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+expireTimeout)
	defer cancel()
	err = wait.Until(ctx, what+" to expire", 10*time.Millisecond, func() error {
		if seconds, there, err = left(); err != nil || !there {
			return err
		}
		return fmt.Errorf("it has %d s left", seconds)
	})
	if err == nil {
		err = wait.For(ctx, 2*tick()) // one of them whole
	}
	if err != nil {
		return err
	}
	r.observer.Mark(what + " has expired")
	return nil
}
