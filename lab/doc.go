//go:build linux

// Package lab brings a topology.Spec to life on the running kernel: network
// namespaces, veth pairs, bridges, addresses, routes, sysctls, offloads, tunnels,
// IPVS services and sidecars. Up makes all of it, Close leaves nothing behind,
// and the network of the host is not touched in between.
//
// # Threads and namespaces
//
// A network namespace belongs to a thread, not to a process and not to a
// goroutine. Go moves goroutines between threads as it likes. All traps come
// from these two facts:
//
//   - Code that must run inside a node runs in [Node.Do]: on a goroutine of its
//     own that is locked to its thread, which enters the node and comes back. If
//     the way back fails, the thread ends, so no other goroutine can ever find
//     itself in the wrong namespace.
//   - A goroutine started inside Do is an ordinary goroutine: it runs on another
//     thread, outside the node. So does everything that starts goroutines of its
//     own, such as a name look-up or an http.Client. Open the socket inside (or
//     with [Node.Dial] and [Node.Listen]) and use it anywhere: a socket stays in
//     the namespace where it was opened.
//   - /proc/self/net and /proc/self/ns/net are those of the process's first
//     thread. Inside Do, and only there, /proc/thread-self/net is the node's.
//     /proc/sys/net is always that of the thread that opens the file.
//   - Panics and runtime.Goexit inside Do, so Ginkgo's and testing's FailNow
//     too, are carried over to the goroutine that called Do.
//   - The parent-death signal (Pdeathsig) of a child process is tied to the
//     thread that started it. [Node.Start] starts children on one thread that
//     lives as long as the lab, so they die with this process, however it ends,
//     and not before.
//
// # Who holds what
//
// A namespace lives as long as something refers to it: a thread, a process, an
// open file or socket. A lab holds its namespaces by file descriptor alone; none
// has a name or a mount. When Close has closed them, or the process was killed,
// the kernel takes everything inside down. Sockets that the caller opened in a
// node keep that node's namespace until they are closed.
//
// # What exists where
//
// Each node is a namespace, and so is each segment, which holds the bridge
// ("br0") and one port for each end, named after the end's node. Both ends of a
// veth pair are made by one request, sent from inside the lab, each directly in
// its namespace, with name, index, MAC and MTU.
package lab
