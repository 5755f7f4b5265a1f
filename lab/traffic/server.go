package traffic

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"
)

// Server answers every HTTPS request, after reading all of its body, with 200
// and the body "ok".
type Server struct {
	http     *http.Server
	listener net.Listener
	served   chan error
}

// Serve listens on address ("10.0.0.2:443") in ns. The caller closes the
// server. A taken port is reported as the error of listen.
func Serve(ctx context.Context, ns Namespace, address string, ca *CA, t TLS) (*Server, error) {
	// Keepalive probes of the server would make an idle client answer.
	listener, err := ns.Listen(ctx, &net.ListenConfig{KeepAlive: -1}, "tcp4", address)
	if err != nil {
		return nil, fmt.Errorf("listen for HTTPS on %s: %w", address, err)
	}
	s := &Server{
		listener: listener,
		served:   make(chan error, 1),
		http: &http.Server{
			Handler:           http.HandlerFunc(answer),
			ReadHeaderTimeout: time.Minute,
			TLSNextProto:      map[string]func(*http.Server, *tls.Conn, http.Handler){},
			ErrorLog:          log.New(io.Discard, "", 0), // failed handshakes are the client's to report
		},
	}
	go func() { s.served <- s.http.Serve(tls.NewListener(listener, ca.server(t))) }()
	return s, nil
}

func answer(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_, _ = io.WriteString(w, "ok") // the client reports a response it misses
}

// Close ends the server and all of its connections at once.
func (s *Server) Close() error {
	err := s.http.Close()
	if served := <-s.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if err != nil {
		return fmt.Errorf("close the HTTPS server on %s: %w", s.listener.Addr(), err)
	}
	return nil
}
