//go:build linux

// The proxy over loopback sockets, with everything real but the redirect: the
// original destination of every connection is a server of the test.

package sidecar

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pmtulab/pmtulab/lab/wait"
	"golang.org/x/sys/unix"
)

// patience bounds every wait of a test.
const patience = 10 * time.Second

// rig is a proxy in front of one server.
type rig struct {
	t      testing.TB
	proxy  *proxy
	server *net.TCPListener
	stop   context.CancelFunc
	served chan error

	mu        sync.Mutex
	connected []Connection
	closed    []AccessLogEntry
}

// newRig starts a proxy to a listening server. adjust may change the proxy
// before it serves.
func newRig(t testing.TB, cfg Config, adjust func(*proxy)) *rig {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, server: l.(*net.TCPListener), served: make(chan error, 1)}
	t.Cleanup(func() { l.Close() })

	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	cfg = cfg.withDefaults()
	cfg.Port = 0
	r.proxy, err = listen(ctx, "127.0.0.1", cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.proxy.originalDestination = func(*net.TCPConn) (netip.AddrPort, error) {
		return addrPort(l.Addr()), nil
	}
	r.proxy.emit = func(m message) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if m.Connected != nil {
			r.connected = append(r.connected, *m.Connected)
		}
		if m.Closed != nil {
			r.closed = append(r.closed, *m.Closed)
		}
	}
	if adjust != nil {
		adjust(r.proxy)
	}
	go func() {
		r.served <- r.proxy.serve(ctx)
		close(r.served)
	}()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-r.served:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("the proxy did not end")
		}
	})
	return r
}

// dial opens a connection to the proxy.
func (r *rig) dial() *net.TCPConn {
	r.t.Helper()
	conn, err := net.DialTCP("tcp4", nil, r.proxy.listener.Addr().(*net.TCPAddr))
	if err != nil {
		r.t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(patience))
	r.t.Cleanup(func() { conn.Close() })
	return conn
}

// open opens a connection through the proxy: its two ends.
func (r *rig) open() (app, server *net.TCPConn) {
	r.t.Helper()
	app = r.dial()
	r.server.SetDeadline(time.Now().Add(patience))
	server, err := r.server.AcceptTCP()
	if err != nil {
		r.t.Fatal(err)
	}
	server.SetDeadline(time.Now().Add(patience))
	r.t.Cleanup(func() { server.Close() })
	return app, server
}

// entries waits for n closed connections.
func (r *rig) entries(n int) []AccessLogEntry {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var log []AccessLogEntry
	err := wait.Until(ctx, "the access log", time.Millisecond, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.closed) < n {
			return fmt.Errorf("%d entries of %d", len(r.closed), n)
		}
		log = slices.Clone(r.closed)
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return log
}

// until waits for a condition.
func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := wait.Until(ctx, what, time.Millisecond, func() error {
		if ok() {
			return nil
		}
		return fmt.Errorf("not yet; stats:\n%s", r.proxy.counters.stats())
	}); err != nil {
		r.t.Fatal(err)
	}
}

// noise is n reproducible bytes that do not repeat.
func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// readAll reads to the FIN.
func readAll(t testing.TB, conn net.Conn) []byte {
	t.Helper()
	b, err := io.ReadAll(conn)
	if err != nil {
		t.Error(err)
	}
	return b
}

func readN(t testing.TB, conn net.Conn, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(conn, b); err != nil {
		t.Fatal(err)
	}
	return b
}

func send(t testing.TB, conn net.Conn, b []byte) {
	t.Helper()
	if _, err := conn.Write(b); err != nil {
		t.Error(err)
	}
}

func TestBytesArriveUnchanged(t *testing.T) {
	r := newRig(t, Config{}, nil)
	app, server := r.open()
	const size = 10 << 20
	request, response := noise(1, size), noise(2, size+1)

	var w sync.WaitGroup
	for _, end := range []struct {
		conn      *net.TCPConn
		out, want []byte
	}{{app, request, response}, {server, response, request}} {
		w.Go(func() {
			send(t, end.conn, end.out)
			end.conn.CloseWrite()
		})
		w.Go(func() {
			if got := readAll(t, end.conn); sha256.Sum256(got) != sha256.Sum256(end.want) {
				t.Errorf("%d bytes arrived, not the %d that were sent", len(got), len(end.want))
			}
		})
	}
	w.Wait()

	e := r.entries(1)[0]
	if e.BytesReceived != size || e.BytesSent != size+1 || e.Flags != "" {
		t.Errorf("entry %s", e)
	}
	for c, want := range map[counter]uint64{
		downstreamTotal: 1, downstreamActive: 0, upstreamTotal: 1, upstreamActive: 0,
		downstreamRx: size, upstreamTx: size, upstreamRx: size + 1, downstreamTx: size + 1,
		downstreamTxBuffered: 0, upstreamTxBuffered: 0, upstreamConnectFail: 0,
	} {
		if got := r.proxy.counters.get(c); got != want {
			t.Errorf("%s = %d, want %d", c.name(), got, want)
		}
	}
}

// A FIN ends one direction and leaves the other as it is.
func TestHalfClose(t *testing.T) {
	for _, first := range []string{"application", "server"} {
		t.Run("by the "+first, func(t *testing.T) {
			r := newRig(t, Config{}, nil)
			early, late := r.open()
			if first == "server" {
				early, late = late, early
			}
			send(t, early, []byte("question"))
			early.CloseWrite()
			if got := readAll(t, late); string(got) != "question" {
				t.Errorf("read %q before the FIN", got)
			}
			for range 3 {
				send(t, late, []byte("answer"))
				if got := readN(t, early, 6); string(got) != "answer" {
					t.Errorf("read %q after the FIN", got)
				}
			}
			if n := r.proxy.counters.get(downstreamActive); n != 1 {
				t.Errorf("%d connections are active, want 1", n)
			}
			late.CloseWrite()
			if got := readAll(t, early); len(got) != 0 {
				t.Errorf("read %q at the end", got)
			}
			if e := r.entries(1)[0]; e.Flags != "" {
				t.Errorf("flags %q after an orderly end", e.Flags)
			}
		})
	}
}

// A RST on one side comes out as a RST on the other, whatever state they are in.
func TestReset(t *testing.T) {
	for _, tt := range []struct {
		name   string
		server bool // the server resets, not the application
		fin    bool // the side that resets has sent its FIN before
		flags  ResponseFlags
	}{
		{"by the application", false, false, DownstreamConnectionTermination},
		{"by the server", true, false, UpstreamConnectionTermination},
		{"by the application after its FIN", false, true, DownstreamConnectionTermination},
		{"by the server after its FIN", true, true, UpstreamConnectionTermination},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{}, nil)
			guilty, other := r.open()
			if tt.server {
				guilty, other = other, guilty
			}
			send(t, guilty, []byte("x"))
			readN(t, other, 1)
			if tt.fin {
				guilty.CloseWrite()
				readAll(t, other)
			}
			guilty.SetLinger(0)
			guilty.Close()
			if e := r.entries(1)[0]; e.Flags != tt.flags {
				t.Errorf("flags %q, want %q", e.Flags, tt.flags)
			}
			// After a FIN recv(2) says end of file for ever; the pending error
			// tells that a RST came as well.
			raw, err := other.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			want := unix.ECONNRESET
			if tt.fin {
				want = unix.EPIPE // tcp_reset in CLOSE_WAIT
			}
			r.until("the RST to arrive", func() (reset bool) {
				raw.Control(func(fd uintptr) {
					e, _ := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
					reset = unix.Errno(e) == want
				})
				return reset
			})
		})
	}
}

// A reader that does not read stops the writer, with no more than one turn in
// the proxy.
func TestBackpressure(t *testing.T) {
	for _, tt := range []struct {
		name                      string
		server                    bool // the server writes, the application is slow
		buffered, paused, resumed counter
	}{
		{"slow server", false, upstreamTxBuffered, downstreamPaused, downstreamResumed},
		{"slow application", true, downstreamTxBuffered, upstreamPaused, upstreamResumed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{}, nil)
			writer, reader := r.open()
			if tt.server {
				writer, reader = reader, writer
			}
			// More than the kernel's buffers of both connections can hold: 4 MiB to
			// send and 6 MiB to receive each, by default.
			data := noise(3, 32<<20)
			go func() {
				writer.Write(data)
				writer.CloseWrite()
			}()
			c := r.proxy.counters
			r.until("the relay to pause", func() bool { return c.get(tt.paused) > 0 })
			// Nobody reads, so the pause lasts, and what is buffered stays.
			held := c.get(tt.buffered)
			if held == 0 || held > maxSlices*sliceSize {
				t.Errorf("%d bytes are buffered, want 1 to %d", held, maxSlices*sliceSize)
			}
			if c.get(tt.resumed) != c.get(tt.paused)-1 {
				t.Errorf("paused %d, resumed %d", c.get(tt.paused), c.get(tt.resumed))
			}
			if got := readAll(t, reader); !bytes.Equal(got, data) {
				t.Errorf("%d bytes arrived, not the %d that were sent", len(got), len(data))
			}
			r.until("the relay to resume", func() bool { return c.get(tt.resumed) == c.get(tt.paused) })
			if n := c.get(tt.buffered); n != 0 {
				t.Errorf("%d bytes are buffered at the end", n)
			}
		})
	}
}

func TestRefusedConnect(t *testing.T) {
	r := newRig(t, Config{}, nil)
	r.server.Close()
	app := r.dial()
	if got := readAll(t, app); len(got) != 0 {
		t.Errorf("read %q", got)
	}
	e := r.entries(1)[0]
	if e.Flags != UpstreamConnectFailure || e.TransportFailure != "delayed_connect_error:_Connection_refused" {
		t.Errorf("entry %s", e)
	}
	if len(r.connected) != 0 || e.Connected != 0 || e.UpstreamLocal.IsValid() {
		t.Errorf("a connection that was not made was reported: %v, entry %+v", r.connected, e)
	}
	c := r.proxy.counters
	if c.get(upstreamConnectFail) != 1 || c.get(upstreamConnectTimeout) != 0 || c.get(upstreamActive) != 0 {
		t.Errorf("stats\n%s", c.stats())
	}
}

func TestConnectTimeout(t *testing.T) {
	// A listener whose accept queue is full drops further SYNs
	// (tcp_conn_request): backlog 0 makes room for one.
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	full := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(name.(*unix.SockaddrInet4).Port))
	filler, err := net.Dial("tcp4", full.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { filler.Close() })

	const timeout = 100 * time.Millisecond
	r := newRig(t, Config{ConnectTimeout: timeout}, func(p *proxy) {
		p.originalDestination = func(*net.TCPConn) (netip.AddrPort, error) { return full, nil }
	})
	if got := readAll(t, r.dial()); len(got) != 0 {
		t.Errorf("read %q", got)
	}
	e := r.entries(1)[0]
	if e.Flags != UpstreamConnectFailure || e.TransportFailure != "" || e.Duration() < timeout {
		t.Errorf("entry %s", e)
	}
	if c := r.proxy.counters; c.get(upstreamConnectFail) != 1 || c.get(upstreamConnectTimeout) != 1 {
		t.Errorf("stats\n%s", c.stats())
	}
}

func TestLoopAndUnknownDestinationAreRefused(t *testing.T) {
	for name, lookup := range map[string]func(*net.TCPConn) (netip.AddrPort, error){
		"own listener":   func(c *net.TCPConn) (netip.AddrPort, error) { return addrPort(c.LocalAddr()), nil },
		"not redirected": originalDestination, // the real lookup: there was no redirect
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Config{}, func(p *proxy) { p.originalDestination = lookup })
			if got := readAll(t, r.dial()); len(got) != 0 {
				t.Errorf("read %q", got)
			}
			if e := r.entries(1)[0]; e.Flags != NoHealthyUpstream || e.Cluster != blackHoleCluster {
				t.Errorf("entry %s", e)
			}
			if c := r.proxy.counters; c.get(downstreamNoRoute) != 1 || c.get(upstreamTotal) != 0 {
				t.Errorf("stats\n%s", c.stats())
			}
		})
	}
}

func TestDrain(t *testing.T) {
	r := newRig(t, Config{DrainTimeout: patience}, nil)
	app, server := r.open()
	r.stop()
	r.until("the listener to close", func() bool {
		conn, err := net.Dial("tcp4", r.proxy.listener.Addr().String())
		if err == nil {
			conn.Close()
		}
		return errors.Is(err, unix.ECONNREFUSED)
	})
	send(t, app, []byte("still here"))
	if got := readN(t, server, 10); string(got) != "still here" {
		t.Errorf("read %q while draining", got)
	}
	app.Close()
	server.Close()
	if err := <-r.served; err != nil {
		t.Error(err)
	}
	r.entries(1)
}

func TestDrainEnds(t *testing.T) {
	r := newRig(t, Config{DrainTimeout: time.Millisecond}, nil)
	app, server := r.open()
	r.stop()
	if err := <-r.served; err != nil {
		t.Error(err)
	}
	for _, conn := range []net.Conn{app, server} {
		if got := readAll(t, conn); len(got) != 0 {
			t.Errorf("read %q", got)
		}
	}
	if n := len(r.entries(1)); n != 1 {
		t.Errorf("%d entries", n)
	}
}

// call is a system call that moved data.
type call struct {
	fd    int
	write bool
	n     int
}

// tracer notes the calls of a proxy. A call and its note are one step, so that
// whoever has seen the data finds the note.
type tracer struct {
	mu    sync.Mutex
	calls []call
	// hold, when set, is waited for after the first read.
	hold chan struct{}
}

func (tr *tracer) attach(p *proxy) {
	p.read = func(fd int, b []byte) (int, error) {
		n, err := tr.note(fd, false, func() (int, error) { return unix.Read(fd, b) })
		if n > 0 && tr.hold != nil {
			<-tr.hold
		}
		return n, err
	}
	p.writev = func(fd int, iovs [][]byte) (int, error) {
		return tr.note(fd, true, func() (int, error) { return unix.Writev(fd, iovs) })
	}
}

func (tr *tracer) note(fd int, write bool, f func() (int, error)) (int, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	n, err := f()
	if n > 0 {
		tr.calls = append(tr.calls, call{fd, write, n})
	}
	return n, err
}

// take returns the calls since the last take.
func (tr *tracer) take() []call {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	calls := tr.calls
	tr.calls = nil
	return calls
}

// A turn is any number of reads, then exactly one writev of all they brought.
// The largest size is one TLS record, the field report's kind of request.
func TestOneWritevForEachTurn(t *testing.T) {
	var tr tracer
	r := newRig(t, Config{}, tr.attach)
	app, server := r.open()
	for _, size := range []int{1, 1429, 14 << 10, sliceSize} {
		for _, end := range [][2]*net.TCPConn{{app, server}, {server, app}} {
			send(t, end[0], noise(4, size))
			readN(t, end[1], size)
			calls := tr.take()
			if len(calls) != 2 || calls[0].write || !calls[1].write || calls[0].n != size || calls[1].n != size ||
				calls[0].fd == calls[1].fd {
				t.Errorf("%d bytes took the calls %+v; want one read and one writev of all", size, calls)
			}
		}
	}
}

// What is there at once goes out at once, even if it is more than a slice.
func TestOneWritevForSeveralReads(t *testing.T) {
	// The proxy is held up in its first read until all has arrived.
	tr := tracer{hold: make(chan struct{})}
	r := newRig(t, Config{}, tr.attach)
	app, server := r.open()
	const size = 60_000 // less than the socket buffers hold
	send(t, app, noise(5, size))
	r.until("all to arrive", func() bool { return unsent(t, app) == 0 })
	close(tr.hold)
	readN(t, server, size)
	// The first read got what had arrived by then: maybe not a whole slice.
	calls := tr.take()
	last := calls[len(calls)-1]
	if len(calls) < 5 || !last.write || last.n != size ||
		slices.ContainsFunc(calls[:len(calls)-1], func(c call) bool { return c.write }) {
		t.Errorf("%d bytes took the calls %+v; want reads, then one writev of all", size, calls)
	}
}

// unsent counts the bytes in conn's send queue, acknowledged ones not.
func unsent(t testing.TB, conn *net.TCPConn) (n int) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestSocketOptions(t *testing.T) {
	for _, keepAlive := range []bool{false, true} {
		t.Run(fmt.Sprintf("keepalive %v", keepAlive), func(t *testing.T) {
			type options struct{ noDelay, keepAlive, protocol int }
			seen := make(chan options, 2)
			r := newRig(t, Config{KeepAlive: keepAlive}, func(p *proxy) {
				p.writev = func(fd int, iovs [][]byte) (int, error) {
					var o options
					o.noDelay, _ = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY)
					o.keepAlive, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE)
					o.protocol, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
					seen <- o
					return unix.Writev(fd, iovs)
				}
			})
			raw, err := r.proxy.listener.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			raw.Control(func(fd uintptr) {
				if p, _ := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PROTOCOL); p != unix.IPPROTO_TCP {
					t.Errorf("the listener's protocol is %d, not TCP", p)
				}
			})
			app, server := r.open()
			want := options{noDelay: 1, protocol: unix.IPPROTO_TCP}
			if keepAlive {
				want.keepAlive = 1
			}
			send(t, app, []byte("x"))
			if got := <-seen; got != want {
				t.Errorf("upstream socket: %+v, want %+v", got, want)
			}
			send(t, server, []byte("x"))
			if got := <-seen; got != want {
				t.Errorf("downstream socket: %+v, want %+v", got, want)
			}
		})
	}
}

// An idle connection holds no buffer, even after it has carried much.
func TestIdleConnectionsAreSmall(t *testing.T) {
	const (
		connections = 400 // four descriptors each, of 4096 that a user may have
		limit       = 32 << 10
	)
	r := newRig(t, Config{}, nil)
	type ends struct{ app, server *net.TCPConn }
	var open []ends
	payload := noise(6, 256<<10)
	memory := func() uint64 {
		// The first collection moves the pool to its victim cache, the
		// second empties it.
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	before := memory()
	for range connections {
		app, server := r.open()
		go send(t, app, payload[:64<<10])
		readN(t, server, 64<<10)
		open = append(open, ends{app, server})
	}
	each := (memory() - before) / connections
	t.Logf("%d bytes for each idle connection, both of its peers included", each)
	if each > limit {
		t.Errorf("an idle connection holds %d bytes, more than %d", each, limit)
	}
	runtime.KeepAlive(open)
}

// Nothing is left of a connection that is over.
func TestNothingLeaks(t *testing.T) {
	r := newRig(t, Config{}, nil)
	descriptors := func() int {
		d, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(d)
	}
	goroutines, files := runtime.NumGoroutine(), descriptors()
	for i := range 50 {
		app, server := r.open()
		send(t, app, []byte("x"))
		if i%2 == 0 {
			app.SetLinger(0)
		}
		app.Close()
		io.Copy(io.Discard, server)
		server.Close()
	}
	r.entries(50)
	r.until("goroutines to end", func() bool { return runtime.NumGoroutine() <= goroutines })
	r.until("descriptors to close", func() bool { return descriptors() <= files })
}

func BenchmarkThroughput(b *testing.B) {
	chunk := noise(7, 1<<20)
	run := func(b *testing.B, from, to *net.TCPConn) {
		from.SetDeadline(time.Time{})
		to.SetDeadline(time.Time{})
		b.SetBytes(int64(len(chunk)))
		b.ReportAllocs()
		done := make(chan struct{})
		go func() {
			defer close(done)
			io.Copy(io.Discard, struct{ io.Reader }{to})
		}()
		for b.Loop() {
			send(b, from, chunk)
		}
		from.CloseWrite()
		<-done
	}
	r := newRig(b, Config{}, nil)
	b.Run("direct", func(b *testing.B) {
		from, to := r.direct()
		run(b, from, to)
	})
	b.Run("sidecar", func(b *testing.B) {
		from, to := r.open()
		run(b, from, to)
	})
}

// BenchmarkConnection is a connection with one byte there and one back.
func BenchmarkConnection(b *testing.B) {
	r := newRig(b, Config{}, nil)
	for name, open := range map[string]func() (app, server *net.TCPConn){"direct": r.direct, "sidecar": r.open} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				app, server := open()
				send(b, app, []byte("x"))
				readN(b, server, 1)
				send(b, server, []byte("y"))
				readN(b, app, 1)
				// A RST leaves no TIME-WAIT to run out of ports with.
				app.SetLinger(0)
				app.Close()
				server.Close()
			}
		})
	}
}

// direct opens a connection to the server without the proxy.
func (r *rig) direct() (app, server *net.TCPConn) {
	r.t.Helper()
	app, err := net.DialTCP("tcp4", nil, r.server.Addr().(*net.TCPAddr))
	if err != nil {
		r.t.Fatal(err)
	}
	server, err = r.server.AcceptTCP()
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { app.Close(); server.Close() })
	return app, server
}
