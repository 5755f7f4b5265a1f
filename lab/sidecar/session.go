//go:build linux

// One proxied connection, from the accepted socket to the access log.

package sidecar

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// session is one proxied connection.
type session struct {
	proxy *proxy
	entry AccessLogEntry
	down  *net.TCPConn
	up    *net.TCPConn
	// open counts the directions that have not seen a FIN yet.
	open atomic.Int32
	// aborted holds the flags of the first reset.
	aborted atomic.Pointer[ResponseFlags]
}

// run relays down to its original destination, and returns when both
// connections are closed. ctx ends them early.
func (s *session) run(ctx context.Context) {
	p := s.proxy
	p.counters.inc(downstreamTotal)
	p.counters.inc(downstreamActive)
	defer p.counters.dec(downstreamActive)
	s.entry.Accepted = monotonic()
	s.entry.Start = time.Now()
	s.entry.DownstreamRemote = addrPort(s.down.RemoteAddr())
	s.entry.DownstreamLocal = addrPort(s.down.LocalAddr())

	if s.connect(ctx) {
		p.emit(message{Connected: &s.entry.Connection})
		stop := context.AfterFunc(ctx, s.close)
		s.relay()
		stop()
		p.counters.dec(upstreamActive)
	}
	s.close()
	s.entry.Closed = monotonic()
	p.emit(message{Closed: &s.entry})
}

// connect makes the upstream connection. When it returns false the entry says
// why.
func (s *session) connect(ctx context.Context) bool {
	p := s.proxy
	s.entry.Cluster = passthroughCluster
	dst, err := p.originalDestination(s.down)
	if err != nil || dst == s.entry.DownstreamLocal {
		p.counters.inc(downstreamNoRoute)
		s.entry.Cluster = blackHoleCluster
		s.entry.Flags = NoHealthyUpstream
		return false
	}
	s.entry.OriginalDestination = dst
	p.counters.inc(upstreamTotal)
	up, err := p.dialer.DialTCP(ctx, "tcp4", netip.AddrPort{}, dst)
	if err != nil {
		p.counters.inc(upstreamConnectFail)
		if isTimeout(err) {
			p.counters.inc(upstreamConnectTimeout)
		}
		s.entry.Flags = UpstreamConnectFailure
		s.entry.TransportFailure = transportFailure(err)
		return false
	}
	p.counters.inc(upstreamActive)
	s.up = up
	s.entry.UpstreamLocal = addrPort(up.LocalAddr())
	s.entry.UpstreamRemote = addrPort(up.RemoteAddr())
	s.entry.Connected = monotonic()
	return true
}

// relay carries bytes both ways until both ways have ended.
func (s *session) relay() {
	p := s.proxy
	down, errDown := newSide(s.down, DownstreamConnectionTermination)
	up, errUp := newSide(s.up, UpstreamConnectionTermination)
	if errors.Join(errDown, errUp) != nil { // closed already: the drain is over
		return
	}
	forth := &stream{
		from: down, to: up, pool: &p.slices, counters: p.counters,
		rx: downstreamRx, tx: upstreamTx, buffered: upstreamTxBuffered,
		paused: downstreamPaused, resumed: downstreamResumed,
		read: p.read, writev: p.writev,
	}
	back := &stream{
		from: up, to: down, pool: &p.slices, counters: p.counters,
		rx: upstreamRx, tx: downstreamTx, buffered: downstreamTxBuffered,
		paused: upstreamPaused, resumed: upstreamResumed,
		read: p.read, writev: p.writev,
	}
	s.open.Store(2)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.direct(back)
	}()
	s.direct(forth)
	<-done
	s.entry.BytesReceived = forth.total
	s.entry.BytesSent = back.total
	if flags := s.aborted.Load(); flags != nil {
		s.entry.Flags = *flags
	}
}

// direct runs one direction to its end. The direction that ends last closes
// both sockets; a reset of one side resets the other.
func (s *session) direct(st *stream) {
	err := st.run()
	if err == nil {
		if s.open.Add(-1) == 0 {
			s.close()
			return
		}
		err = st.watch()
	}
	var reset *resetBy
	if errors.As(err, &reset) {
		if s.aborted.CompareAndSwap(nil, &reset.flags) {
			// Closing with a zero linger time sends RST in place of FIN
			// (tcp_close, RFC 9293 §3.10.5 ABORT). On a socket that is
			// reset already it does nothing.
			_ = s.down.SetLinger(0)
			_ = s.up.SetLinger(0)
		}
	}
	s.close()
}

// close closes both sockets; it may be called any number of times.
func (s *session) close() {
	// There is nobody to tell, and the sockets are closed whatever it returns.
	_ = s.down.Close()
	if s.up != nil {
		_ = s.up.Close()
	}
}

func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// transportFailure puts a failed connect into the words of Envoy's
// %UPSTREAM_TRANSPORT_FAILURE_REASON%. A connect timeout is the proxy's own
// decision, for which Envoy gives no reason.
func transportFailure(err error) string {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return ""
	}
	text := errno.Error()
	return fmt.Sprintf("delayed_connect_error:_%s%s",
		strings.ToUpper(text[:1]), strings.ReplaceAll(text[1:], " ", "_"))
}
