package traffic

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"sync"
	"time"
)

const (
	// recordOverhead is what TLS 1.3 adds to the plaintext of one record:
	// header 5, content type 1, authentication tag 16 (RFC 8446 §5.2).
	recordOverhead = 22
	// maxPlaintext is the largest plaintext of one record (RFC 8446 §5.1).
	maxPlaintext = 16384

	// MinRequest and MaxRequest bound the wire size of one request, bytes.
	MinRequest = 256
	MaxRequest = maxPlaintext + recordOverhead
)

var (
	// ErrRedial is the error of a request on a connection that was lost: a
	// second connection would have another route, MSS and port.
	ErrRedial = errors.New("connection lost, and a re-dial is not allowed")
	// ErrShape is the error of a request that did not leave as one write of
	// the size asked for.
	ErrShape = errors.New("request did not leave as one write of the size asked for")
)

// HandshakeError is the error of a connection whose TLS handshake failed.
// Behind a transparent proxy that is also how a failed upstream connect shows.
type HandshakeError struct {
	// Local and Remote are the application's own addresses.
	Local, Remote netip.AddrPort
	Err           error
}

func (e *HandshakeError) Error() string {
	return fmt.Sprintf("TLS handshake with %s: %v", e.Remote, e.Err)
}

func (e *HandshakeError) Unwrap() error { return e.Err }

// Options of a connection.
type Options struct {
	// Address is where to connect to, "10.0.0.2:443".
	Address string
	TLS     TLS
	// KeepAlive is the interval of TCP keepalive probes; 0 switches them off.
	KeepAlive time.Duration
	// KeyLog receives the secrets of the TLS connection, in the NSS key log
	// format, until Open returns; nil keeps them secret.
	KeyLog io.Writer
}

// Conn is one established HTTPS connection that is never replaced.
type Conn struct {
	// Local and Remote are the application's own addresses. With a
	// transparent proxy in between, Remote is still the address dialled.
	Local, Remote netip.AddrPort
	// Connect and Handshake are how long TCP and TLS set-up took.
	Connect, Handshake time.Duration

	wire      *meter
	transport *http.Transport
	url       string
}

// Open connects and completes the TLS handshake. The caller closes the Conn.
func Open(ctx context.Context, ns Namespace, ca *CA, o Options) (*Conn, error) {
	address, err := netip.ParseAddrPort(o.Address)
	if err != nil {
		return nil, fmt.Errorf("parse address %q: %w", o.Address, err)
	}
	keepAlive := o.KeepAlive
	if keepAlive == 0 {
		keepAlive = -1
	}
	start := time.Now()
	raw, err := ns.Dial(ctx, &net.Dialer{KeepAlive: keepAlive}, "tcp4", o.Address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", o.Address, err)
	}
	c := &Conn{
		Local: raw.LocalAddr().(*net.TCPAddr).AddrPort(), Remote: address,
		Connect: time.Since(start), wire: &meter{Conn: raw}, url: "https://" + o.Address + "/",
	}
	start = time.Now()
	config := ca.client(o.TLS, address.Addr().String())
	config.KeyLogWriter = o.KeyLog
	session := tls.Client(c.wire, config)
	if err := session.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, &HandshakeError{Local: c.Local, Remote: c.Remote, Err: err}
	}
	c.Handshake = time.Since(start)

	var once sync.Once
	c.transport = &http.Transport{
		DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
			var conn net.Conn
			once.Do(func() { conn = session })
			if conn == nil {
				return nil, ErrRedial
			}
			return conn, nil
		},
		DisableCompression: true, // no Accept-Encoding: the header is ours to the byte
		WriteBufferSize:    maxPlaintext,
		MaxConnsPerHost:    1,
	}
	return c, nil
}

// Close ends the connection.
func (c *Conn) Close() error {
	c.transport.CloseIdleConnections()
	if err := c.wire.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close %s: %w", c.Local, err)
	}
	return nil
}

// Exchange is one request and its response. Moments are on the monotonic clock.
type Exchange struct {
	// Bytes is the size of the request on the wire: TCP payload with TLS
	// record, without headers of TCP and IP.
	Bytes int
	// Wrote is just before the write; FirstByte and Done are the response's.
	Wrote, FirstByte, Done time.Time
	Status                 int
}

// Latency is from the write to the end of the response.
func (e Exchange) Latency() time.Duration { return e.Done.Sub(e.Wrote) }

// Request sends a POST that takes exactly size bytes on the wire, between
// MinRequest and MaxRequest, in one write, and waits for the response. On an
// error the Exchange holds what was measured before it.
func (c *Conn) Request(ctx context.Context, size int) (Exchange, error) {
	request, err := newRequest(ctx, c.url, size)
	if err != nil {
		return Exchange{}, err
	}
	var x Exchange
	request = request.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotFirstResponseByte: func() { x.FirstByte = time.Now() },
	}))
	c.wire.reset()
	response, err := c.transport.RoundTrip(request)
	written := c.wire.writes()
	if len(written) > 0 {
		x.Wrote, x.Bytes = written[0].at, written[0].size
	}
	if err != nil {
		return x, fmt.Errorf("request of %d bytes: %w", size, err)
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return x, fmt.Errorf("read the response: %w", err)
	}
	x.Done, x.Status = time.Now(), response.StatusCode
	if len(written) != 1 || x.Bytes != size {
		return x, fmt.Errorf("%w: asked for %d bytes, wrote %v", ErrShape, size, written)
	}
	return x, nil
}

// newRequest makes a POST whose header and body are size - recordOverhead
// bytes long. The length of the Content-Length digits depends on the body's
// length, so the body is found by trial; where no length fits (99 to 100
// digits wide), one more byte goes into the path.
func newRequest(ctx context.Context, url string, size int) (*http.Request, error) {
	if size < MinRequest || size > MaxRequest {
		return nil, fmt.Errorf("request of %d bytes: one TLS record carries %d to %d bytes", size, MinRequest, MaxRequest)
	}
	plaintext := size - recordOverhead
	for _, path := range []string{"", "x"} {
		for digits := 5; digits >= 1; digits-- {
			bare, err := post(ctx, url+path, 0)
			if err != nil {
				return nil, err
			}
			body := plaintext - (headerLength(bare) - 1 + digits)
			if body < 1 {
				continue
			}
			full, err := post(ctx, url+path, body)
			if err != nil {
				return nil, err
			}
			if headerLength(full)+body == plaintext {
				return full, nil
			}
		}
	}
	return nil, fmt.Errorf("request of %d bytes: no body length fits", size)
}

func post(ctx context.Context, url string, body int) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(make([]byte, body)))
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	r.Header.Set("User-Agent", "pmtulab")
	return r, nil
}

// headerLength is the length of r up to its body, as net/http writes it.
func headerLength(r *http.Request) int {
	bare := r.Clone(context.Background())
	if r.ContentLength == 0 {
		bare.Body = http.NoBody
	} else {
		bare.Body = io.NopCloser(io.LimitReader(zeros{}, r.ContentLength))
	}
	var n countingWriter
	_ = bare.Write(&n) // a countingWriter does not fail
	return int(n) - int(r.ContentLength)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type countingWriter int

func (n *countingWriter) Write(p []byte) (int, error) {
	*n += countingWriter(len(p))
	return len(p), nil
}

// meter notes every write below TLS.
type meter struct {
	net.Conn
	mu  sync.Mutex
	log []write
}

type write struct {
	at   time.Time
	size int
}

func (w write) String() string { return fmt.Sprintf("%d bytes", w.size) }

func (m *meter) Write(p []byte) (int, error) {
	m.mu.Lock()
	m.log = append(m.log, write{time.Now(), len(p)})
	m.mu.Unlock()
	return m.Conn.Write(p) //nolint:wrapcheck // a net.Conn returns the errors of the net.Conn below
}

func (m *meter) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log = nil
}

func (m *meter) writes() []write {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]write(nil), m.log...)
}
