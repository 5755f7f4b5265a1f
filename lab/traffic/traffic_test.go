package traffic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// here is the namespace that the test runs in.
type here struct{}

func (here) Listen(ctx context.Context, c *net.ListenConfig, network, address string) (net.Listener, error) {
	return c.Listen(ctx, network, address)
}

func (here) Dial(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error) {
	return d.DialContext(ctx, network, address)
}

func open(t *testing.T, o Options) (*Conn, *Server) {
	t.Helper()
	ca, err := NewCA(netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	server, err := Serve(t.Context(), here{}, "127.0.0.1:0", ca, o.TLS)
	if err != nil {
		t.Fatal(err)
	}
	o.Address = server.listener.Addr().String()
	conn, err := Open(t.Context(), here{}, ca, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn, server
}

func TestRequestIsOneWriteOfTheSizeAskedFor(t *testing.T) {
	conn, server := open(t, Options{})
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}()
	sizes := []int{MinRequest, 1000, 1428, 1429, 1448, 1449, 4 * 1448, 9999, 14000, MaxRequest - 1, MaxRequest}
	for size := MinRequest; size < 1500; size++ { // every width of Content-Length
		sizes = append(sizes, size)
	}
	for _, size := range sizes {
		x, err := conn.Request(t.Context(), size)
		if err != nil {
			t.Fatal(err)
		}
		if x.Bytes != size || x.Status != 200 {
			t.Errorf("request of %d bytes: wrote %d, status %d", size, x.Bytes, x.Status)
		}
		if x.FirstByte.Before(x.Wrote) || x.Done.Before(x.FirstByte) {
			t.Errorf("request of %d bytes: moments out of order: %+v", size, x)
		}
	}
}

// The secrets are told when asked for: four for each connection of TLS 1.3.
func TestKeyLog(t *testing.T) {
	var log strings.Builder
	open(t, Options{KeyLog: &log})
	var labels []string
	for line := range strings.Lines(log.String()) {
		label, _, _ := strings.Cut(line, " ")
		labels = append(labels, label)
	}
	slices.Sort(labels)
	want := []string{"CLIENT_HANDSHAKE_TRAFFIC_SECRET", "CLIENT_TRAFFIC_SECRET_0", "SERVER_HANDSHAKE_TRAFFIC_SECRET", "SERVER_TRAFFIC_SECRET_0"}
	if !slices.Equal(labels, want) {
		t.Errorf("secrets %q, want %q", labels, want)
	}
}

func TestRequestSizeOutOfRange(t *testing.T) {
	for _, size := range []int{-1, 0, MinRequest - 1, MaxRequest + 1} {
		if _, err := newRequest(t.Context(), "https://127.0.0.1/", size); err == nil {
			t.Errorf("%d bytes: no error", size)
		}
	}
}

func TestNoRedial(t *testing.T) {
	conn, server := open(t, Options{})
	if _, err := conn.Request(t.Context(), 1000); err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Request(t.Context(), 1000); err == nil {
		t.Fatal("a request succeeded after the server had closed")
	}
	if _, err := conn.Request(t.Context(), 1000); !errors.Is(err, ErrRedial) {
		t.Fatalf("got %v, want ErrRedial", err)
	}
}

// TestClientHello proves the trap that X25519 alone avoids.
func TestClientHello(t *testing.T) {
	for _, c := range []struct {
		postQuantum bool
		fits        bool
	}{{false, true}, {true, false}} {
		t.Run(fmt.Sprint(c.postQuantum), func(t *testing.T) {
			conn, server := open(t, Options{TLS: TLS{PostQuantum: c.postQuantum}})
			defer func() { _ = server.Close() }()
			hello := conn.wire.writes()[0].size
			if got := hello <= 1428; got != c.fits {
				t.Errorf("ClientHello of %d bytes", hello)
			}
		})
	}
}

func TestIdleConnectionIsSilent(t *testing.T) {
	conn, server := open(t, Options{})
	defer func() { _ = server.Close() }()
	// Tickets would come right behind the handshake.
	_ = conn.wire.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := conn.wire.Read(make([]byte, 1)); n != 0 || !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
		t.Errorf("read %d bytes, %v; want silence", n, err)
	}
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}
