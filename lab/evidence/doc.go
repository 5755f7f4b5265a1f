// Package evidence tells what happened in the nodes of a lab. It looks on
// without taking part: nothing here sends a packet, looks a route up or
// touches a socket, because any of these changes the outcome of a path-MTU
// experiment.
//
// Five sources are read:
//   - counters: /proc/net/snmp, snmp6, netstat and the totals of IPVS;
//   - PMTU exceptions: a dump of the cloned routes (RTM_GETROUTE);
//   - sockets: samples of TCP sockets through inet_diag;
//   - packets: a memory-mapped AF_PACKET ring in each node. What is decoded of
//     them is an event; their bytes are kept when asked for;
//   - kernel functions: kprobes, when asked for and where there are any.
//
// An [Observer] brings sockets, packets and calls into one stream of
// record.Event on
// one clock. Counters and exceptions can also be read on their own.
//
// # Threads and namespaces
//
// A network namespace belongs to a thread, but a socket and an open file under
// /proc/net keep the namespace they were opened in. So everything is opened
// once, inside Node.Do, and used afterwards from ordinary goroutines: no
// thread stays locked. An open observer therefore keeps its namespaces alive;
// stop it before the lab is closed.
//
// # Quiet by design
//
// On a guest with one CPU an observer that wakes for each packet shifts the
// very timings it reports. No descriptor here is known to Go's network poller,
// and no reader blocks on one: packets wait in the ring until a tick, samples
// are answered by the kernel within the system call that asks.
package evidence

// Node is a network namespace that can be observed. *lab.Node is one.
type Node interface {
	// Name is the node's name in the topology.
	Name() string
	// Do runs f on a thread inside the node's network namespace.
	Do(f func() error) error
}
