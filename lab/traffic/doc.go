// Package traffic makes HTTPS connections and requests whose every byte on the
// wire is known: net/http speaking HTTP/1.1 over crypto/tls, with the pieces
// that would blur a path-MTU experiment held still.
//
//   - One request is one TLS record and one write of exactly the size asked for.
//   - A connection never re-dials: a request on a lost connection is an error.
//   - TCP keepalive and TLS session tickets are off, so an idle connection is
//     silent in both directions.
//   - The key exchange is X25519 alone, so a ClientHello fits one segment. With
//     the hybrid post-quantum exchange that Go offers by default it does not,
//     and the handshake itself becomes the packet that is too long.
//
// Every moment is taken from the monotonic clock.
package traffic

import (
	"context"
	"net"
)

// Namespace opens sockets in the network that the traffic belongs to; a
// *lab.Node is one.
type Namespace interface {
	Listen(ctx context.Context, config *net.ListenConfig, network, address string) (net.Listener, error)
	Dial(ctx context.Context, dialer *net.Dialer, network, address string) (net.Conn, error)
}
