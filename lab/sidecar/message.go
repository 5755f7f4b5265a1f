//go:build linux

// What the sidecar's process tells the one that started it: JSON, a message a
// line. Exactly one field is set.

package sidecar

import (
	"encoding/json"
	"io"
	"sync"
)

type message struct {
	// Listening: the proxy takes connections.
	Listening bool `json:"listening,omitempty"`
	// Failed: the process is about to end before it listens.
	Failed *failure `json:"failed,omitempty"`
	// Connected: an upstream connection was made.
	Connected *Connection `json:"connected,omitempty"`
	// Closed: a connection ended, or was never made.
	Closed *AccessLogEntry `json:"closed,omitempty"`
}

// failure is why a sidecar did not start.
type failure struct {
	// PortTaken tells EADDRINUSE from the rest.
	PortTaken bool   `json:"port_taken,omitempty"`
	Text      string `json:"text"`
}

// messenger writes messages. A record is written before the first byte of its
// connection is relayed, which costs one write(2); a reader that falls behind
// holds up the proxy, and no record is lost.
type messenger struct {
	mu  sync.Mutex
	enc *json.Encoder
}

func newMessenger(w io.Writer) *messenger { return &messenger{enc: json.NewEncoder(w)} }

func (m *messenger) send(msg message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	// The only error is that the parent has gone; the lifeline ends us then.
	_ = m.enc.Encode(msg)
}
