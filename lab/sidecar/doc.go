//go:build linux

// Package sidecar is a transparent TCP proxy in a process of its own, which
// behaves on the wire as Envoy does in an Istio pod: outbound TCP of a network
// namespace is redirected to its listener and passed on to where it was bound.
//
//	application ──SYN to VIP──▶ nat OUTPUT: REDIRECT ──▶ 0.0.0.0:15001 sidecar (uid 1337)
//	                                                          │ SO_ORIGINAL_DST = VIP
//	                                                          └──a connection of its own──▶ VIP
//
// There are thus two TCP connections for one of the application's. Downstream
// is the application's, which never leaves the namespace; upstream is the
// sidecar's, which crosses the network and is the one with a path MTU. Both
// are addressed to the same destination.
//
// # What is like Envoy
//
// A turn of a relay reads until the socket is empty, in slices of 16 KiB and 16
// of them at most (256 KiB; Envoy's own limits are 16 slices for one writev and
// a buffer of 1 MiB), and hands all of them to the other socket in one writev.
// The next turn begins when everything was taken, so that a slow reader holds
// up the writer through TCP's own window. This shape matters: io.Copy would use
// splice, and other numbers of writes would come to other numbers of segments.
//
// TCP_NODELAY is set on both sockets. A FIN is passed on as a FIN, each
// direction for itself; a RST as a RST. TCP keepalive is off unless asked for:
// a probe makes its peer acknowledge, and one acknowledgement is enough to
// refresh the route of a connection that an experiment needs to stay idle.
//
// # What is not
//
// TLS is not looked at (no TLS inspector: REQUESTED_SERVER_NAME is "-"),
// there is one cluster, PassthroughCluster, and no configuration but Config.
//
// # Processes
//
// Start re-executes the running program in the role that Role describes, so
// main (or TestMain) must offer it to role.Play. Standard input of the child is
// a pipe that the parent holds open: it ends when the parent does, however
// that comes about. Records come back as JSON lines on descriptor 3, and the
// counters live in memory that both processes map (descriptor 4), so that
// reading them neither wakes nor delays the proxy.
package sidecar
