//go:build linux

// The proxy proper: listen, accept, drain.

package sidecar

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/pmtulab/pmtulab/lab/wait"
	"golang.org/x/sys/unix"
)

// proxy is the part of the sidecar that needs no privilege.
type proxy struct {
	listener *net.TCPListener
	dialer   net.Dialer
	counters *counters
	// originalDestination finds where an accepted connection was bound.
	originalDestination func(*net.TCPConn) (netip.AddrPort, error)
	// emit takes a record; it may be called by several goroutines at once.
	emit func(message)
	// read and writev are the system calls of every stream.
	read   func(fd int, p []byte) (int, error)
	writev func(fd int, iovs [][]byte) (int, error)
	// drain is how long open connections may go on once accepting has ended.
	drain  time.Duration
	slices slicePool
}

// listen makes a proxy that listens on host, an IPv4 address, and port.
//
// Multipath TCP is switched off: Go's listeners ask for it by default, while
// Envoy's are plain TCP.
func listen(ctx context.Context, host string, cfg Config) (*proxy, error) {
	keepAlive := net.KeepAliveConfig{Enable: cfg.KeepAlive}
	lc := net.ListenConfig{KeepAlive: -1, KeepAliveConfig: keepAlive}
	lc.SetMultipathTCP(false)
	addr := net.JoinHostPort(host, strconv.Itoa(int(cfg.Port)))
	l, err := lc.Listen(ctx, "tcp4", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	p := &proxy{
		listener:            l.(*net.TCPListener),
		dialer:              net.Dialer{Timeout: cfg.ConnectTimeout, KeepAlive: -1, KeepAliveConfig: keepAlive},
		originalDestination: originalDestination,
		counters:            new(counters),
		emit:                func(message) {},
		read:                unix.Read,
		writev:              unix.Writev,
		drain:               cfg.DrainTimeout,
	}
	p.dialer.SetMultipathTCP(false)
	return p, nil
}

// serve accepts connections until ctx ends, lets the open ones go on for the
// drain time, closes what is left of them, and returns when all are closed.
func (p *proxy) serve(ctx context.Context) error {
	// Open connections end with hard, not with ctx.
	hard, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	stop := context.AfterFunc(ctx, func() { _ = p.listener.Close() })
	defer stop()

	var sessions sync.WaitGroup
	err := p.accept(ctx, func(id uint64, conn *net.TCPConn) {
		sessions.Go(func() {
			s := &session{proxy: p, down: conn}
			s.entry.ID = id
			s.run(hard)
		})
	})
	deadline := time.AfterFunc(p.drain, cut)
	defer deadline.Stop()
	sessions.Wait()
	return err
}

// accept hands every connection to start, with its number. It returns nil when
// ctx has ended.
func (p *proxy) accept(ctx context.Context, start func(uint64, *net.TCPConn)) error {
	for id := uint64(1); ; {
		conn, err := p.listener.AcceptTCP()
		switch {
		case err == nil:
			start(id, conn)
			id++
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE),
			errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM),
			errors.Is(err, unix.ECONNABORTED):
			// It stays in the backlog until a descriptor is free.
			if wait.For(ctx, 10*time.Millisecond) != nil {
				return nil
			}
		default:
			_ = p.listener.Close() // it has failed already
			return fmt.Errorf("accept on %s: %w", p.listener.Addr(), err)
		}
	}
}
