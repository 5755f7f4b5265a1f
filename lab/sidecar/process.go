//go:build linux

// The sidecar as its parent sees it: start, ask, stop.

package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pmtulab/pmtulab/lab/role"
)

// Config is how a sidecar behaves. The zero value is Envoy's in an Istio pod.
type Config struct {
	// Port is the port that the proxy listens on, on all addresses. Default
	// 15001.
	Port uint16 `json:"port"`
	// UID is the user and group that the process runs as; connections of this
	// user are not redirected. Default 1337; it cannot be 0.
	UID int `json:"uid"`
	// ConnectTimeout bounds an upstream connect. Default 10 s.
	ConnectTimeout time.Duration `json:"connect_timeout"`
	// DrainTimeout is how long open connections may go on after Stop. Default
	// 5 s, Istio's terminationDrainDuration.
	DrainTimeout time.Duration `json:"drain_timeout"`
	// KeepAlive turns TCP keepalive on for both connections, with Go's
	// defaults. Off, as in Envoy.
	KeepAlive bool `json:"keepalive,omitempty"`
}

// withDefaults fills in what is zero.
func (c Config) withDefaults() Config {
	if c.Port == 0 {
		c.Port = 15001
	}
	if c.UID == 0 {
		c.UID = 1337
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 10 * time.Second
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = 5 * time.Second
	}
	return c
}

func (c Config) validate() error {
	var errs []error
	if c.UID < 0 {
		errs = append(errs, fmt.Errorf("uid %d is negative", c.UID))
	}
	if c.ConnectTimeout < 0 {
		errs = append(errs, fmt.Errorf("connect timeout %v is negative", c.ConnectTimeout))
	}
	if c.DrainTimeout < 0 {
		errs = append(errs, fmt.Errorf("drain timeout %v is negative", c.DrainTimeout))
	}
	return errors.Join(errs...)
}

// startTimeout bounds Start where the caller's context does not. The process
// listens after 0.25 s in User-Mode Linux, after 10 ms elsewhere.
const startTimeout = 15 * time.Second

// killGrace is how long the process may take to end after the drain.
const killGrace = 2 * time.Second

// ErrPortTaken says that another socket of the namespace holds the port.
var ErrPortTaken = errors.New("port is taken (choose another port for the sidecar, or end what listens there)")

// ErrEnded says that the sidecar's process is not running.
var ErrEnded = errors.New("sidecar has ended")

// ConnectError says that the sidecar could not connect a connection onward.
type ConnectError struct{ Entry AccessLogEntry }

func (e *ConnectError) Error() string {
	return fmt.Sprintf("sidecar made no upstream connection for %s to %s: %s %s",
		e.Entry.DownstreamRemote, e.Entry.OriginalDestination, e.Entry.Flags, dash(e.Entry.TransportFailure))
}

// Process is a running sidecar and its redirect. Its methods may be called
// from several goroutines at once.
type Process struct {
	ns       Namespace
	redirect redirect
	drain    time.Duration
	cmd      *exec.Cmd
	kill     context.CancelFunc
	lifeline *os.File
	stderr   head
	// ended is closed when the process is gone and its last message was read;
	// exit is then its end, nil for exit code 0.
	ended chan struct{}
	exit  error
	ready chan message

	stopping sync.Mutex // Stop and Close, one at a time

	mu       sync.Mutex
	changed  chan struct{} // closed, and made anew, with every record
	byApp    map[netip.AddrPort]*AccessLogEntry
	log      []AccessLogEntry
	counters *counters // nil once unmapped
	unmap    func() error
	last     Stats // when counters is nil
}

// Start redirects outbound TCP of ns to a new sidecar, starts it, and returns
// when it listens. ctx bounds the start, not the life of the process. The
// caller calls Stop or Close. When Start fails nothing is left behind.
//
// Errors: ErrPortTaken, ErrRedirectExists.
func Start(ctx context.Context, cfg Config, ns Namespace) (*Process, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("start sidecar: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout,
		fmt.Errorf("sidecar did not listen within %v", startTimeout))
	defer cancel()

	p, err := spawn(cfg, ns)
	if err != nil {
		return nil, fmt.Errorf("start sidecar: %w", err)
	}
	// The process takes its time to come up; the redirect is made meanwhile.
	err = p.redirect.install(ctx, ns)
	if err == nil {
		err = p.awaitListening(ctx)
	}
	if err != nil {
		p.kill()
		<-p.ended
		err = fmt.Errorf("start sidecar on port %d: %w", cfg.Port, err)
		// ctx may be what failed; the rules go in any case.
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
		defer cancel()
		return nil, errors.Join(err, p.redirect.remove(undo, ns), p.release())
	}
	return p, nil
}

// spawn starts the process and what listens to it.
func spawn(cfg Config, ns Namespace) (_ *Process, err error) {
	arg, err := json.Marshal(cfg)
	if err != nil {
		return nil, fmt.Errorf("encode the configuration: %w", err)
	}
	// Every file but the two that are kept is closed on the way out.
	var opened []*os.File
	defer func() {
		for _, f := range opened {
			_ = f.Close() // the other process has its own
		}
	}()
	pipe := func() (r, w *os.File, err error) {
		r, w, err = os.Pipe()
		if err == nil {
			opened = append(opened, r, w)
		}
		return r, w, err //nolint:wrapcheck // names the system call
	}
	lifelineR, lifelineW, err := pipe()
	if err != nil {
		return nil, err
	}
	messagesR, messagesW, err := pipe()
	if err != nil {
		return nil, err
	}
	memory, err := newCountersFile()
	if err != nil {
		return nil, err
	}
	opened = append(opened, memory)
	counters, unmap, err := mapCounters(memory.Fd(), 0)
	if err != nil {
		return nil, err
	}

	life, kill := context.WithCancel(context.Background())
	p := &Process{
		ns:       ns,
		redirect: redirect{port: cfg.Port, uid: cfg.UID},
		drain:    cfg.DrainTimeout,
		cmd:      role.Command(life, roleName, string(arg)),
		kill:     kill,
		lifeline: lifelineW,
		ended:    make(chan struct{}),
		ready:    make(chan message, 1),
		changed:  make(chan struct{}),
		byApp:    make(map[netip.AddrPort]*AccessLogEntry),
		counters: counters,
		unmap:    unmap,
	}
	p.cmd.Stdin = lifelineR
	p.cmd.Stderr = &p.stderr
	p.cmd.ExtraFiles = []*os.File{messagesW, memory}
	if err := ns.Start(p.cmd); err != nil {
		kill()
		return nil, errors.Join(fmt.Errorf("start the process: %w", err), unmap())
	}
	opened = slices.DeleteFunc(opened, func(f *os.File) bool { return f == lifelineW || f == messagesR })
	go p.follow(messagesR)
	return p, nil
}

// follow takes messages until the process has closed its end, then waits for
// the process.
func (p *Process) follow(messages *os.File) {
	defer close(p.ended)
	defer func() { _ = messages.Close() }() // read only
	var readErr error
	for dec := json.NewDecoder(messages); ; {
		var m message
		if readErr = dec.Decode(&m); readErr != nil {
			break
		}
		p.take(m)
	}
	if !errors.Is(readErr, io.EOF) {
		// What cannot be read any more cannot be trusted to run.
		p.kill()
	} else {
		readErr = nil
	}
	if err := p.cmd.Wait(); err != nil || readErr != nil {
		p.exit = errors.Join(err, readErr)
		if text := p.stderr.String(); text != "" {
			p.exit = fmt.Errorf("%w: %s", p.exit, text)
		}
	}
}

// take files one message.
func (p *Process) take(m message) {
	if m.Listening || m.Failed != nil {
		select {
		case p.ready <- m:
		default: // said twice; the first counts
		}
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case m.Connected != nil:
		p.byApp[m.Connected.DownstreamRemote] = &AccessLogEntry{Connection: *m.Connected}
	case m.Closed != nil:
		p.byApp[m.Closed.DownstreamRemote] = m.Closed
		p.log = append(p.log, *m.Closed)
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Process) awaitListening(ctx context.Context) error {
	var m message
	select {
	case m = <-p.ready:
	case <-p.ended:
		select {
		case m = <-p.ready: // said on its deathbed
		default:
			return fmt.Errorf("%w before it listened: %w", ErrEnded, exitError(p.exit))
		}
	case <-ctx.Done():
		return fmt.Errorf("wait for it to listen: %w", context.Cause(ctx))
	}
	switch {
	case m.Failed == nil:
		return nil
	case m.Failed.PortTaken:
		return fmt.Errorf("%s: %w", m.Failed.Text, ErrPortTaken)
	default:
		return errors.New(m.Failed.Text)
	}
}

// exitError is err, or words for an exit that was no error.
func exitError(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// PID is the process id of the sidecar in the caller's PID namespace.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Redirect is the machinery that the redirect was made with.
func (p *Process) Redirect() Machinery { return p.redirect.with }

// Ended is closed when the process has ended, whether it was asked to or not.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Connection returns the latest connection of the application's socket with
// local address app, once its upstream connection was made. It stays known
// after it was closed.
func (p *Process) Connection(app netip.AddrPort) (Connection, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.byApp[app]
	if !ok || e.Connected == 0 {
		return Connection{}, false
	}
	return e.Connection, true
}

// AwaitConnection is Connection that waits for the upstream connection. It
// returns a *ConnectError when none could be made, ErrEnded when the sidecar
// ends, and the cause of ctx's end.
func (p *Process) AwaitConnection(ctx context.Context, app netip.AddrPort) (Connection, error) {
	for ended := false; ; {
		p.mu.Lock()
		e, changed := p.byApp[app], p.changed
		p.mu.Unlock()
		switch {
		case e != nil && e.Connected != 0:
			return e.Connection, nil
		case e != nil:
			return Connection{}, &ConnectError{Entry: *e}
		case ended:
			return Connection{}, fmt.Errorf("wait for the upstream connection of %s: %w", app, ErrEnded)
		}
		select {
		case <-changed:
		case <-p.ended:
			ended = true // look once more: no message comes after this
		case <-ctx.Done():
			return Connection{}, fmt.Errorf("wait for the upstream connection of %s: %w", app, context.Cause(ctx))
		}
	}
}

// AccessLog returns the entries of all connections that are closed, in the
// order of their end. It is complete after Stop.
func (p *Process) AccessLog() []AccessLogEntry {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.log)
}

// Stats returns the counters as they are now, or as they were at the end. It
// does not disturb the proxy.
func (p *Process) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.counters == nil {
		return p.last
	}
	return p.counters.stats()
}

// Stop ends the sidecar in good order: it takes no new connections, open ones
// may go on for Config.DrainTimeout and are then closed, and the redirect is
// removed last, because a kernel that loses its NAT rules may stop translating
// the connections they made. When ctx ends first, or the process outstays the
// drain by two seconds, it is killed.
// It returns an error when the process had to be killed, did not end well, or
// the redirect stayed. A second call does nothing.
func (p *Process) Stop(ctx context.Context) error {
	p.stopping.Lock()
	defer p.stopping.Unlock()
	if p.lifeline == nil {
		return nil
	}
	limit := p.drain + killGrace
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not over within %v", limit))
	defer cancel()
	var errs []error
	// An error here means that it has ended; that is found out below.
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-ctx.Done():
		errs = append(errs, fmt.Errorf("drain: %w (process was killed)", context.Cause(ctx)))
		p.kill()
		<-p.ended
	}
	if p.exit != nil && len(errs) == 0 {
		errs = append(errs, p.exit)
	}
	undo, cancelUndo := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
	defer cancelUndo()
	errs = append(errs, p.redirect.remove(undo, p.ns), p.release())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stop sidecar: %w", err)
	}
	return nil
}

// Close kills the sidecar and leaves the redirect to end with its namespace:
// the quick way for a namespace that is about to go. The access log then lacks
// connections that were open. It does nothing after Stop.
func (p *Process) Close() error {
	p.stopping.Lock()
	defer p.stopping.Unlock()
	if p.lifeline == nil {
		return nil
	}
	p.kill()
	<-p.ended
	return p.release()
}

// release gives back what outlives the process.
func (p *Process) release() error {
	p.kill()
	err := p.lifeline.Close()
	p.lifeline = nil
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = p.counters.stats()
	p.counters = nil
	return errors.Join(err, p.unmap())
}

// head keeps the beginning of what is written to it, for an error message.
type head struct {
	mu  sync.Mutex
	buf []byte
}

// headSize is enough for a panic's message and its first frames.
const headSize = 4 << 10

func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.buf = append(h.buf, p[:min(len(p), headSize-len(h.buf))]...)
	return len(p), nil
}

func (h *head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.TrimSpace(string(h.buf))
}
