//go:build linux

// Package ipvs programs the IP Virtual Server of one network namespace: virtual
// services, the destinations (real servers) behind them, exact traffic totals,
// and the sysctls under net.ipv4.vs.
//
// It speaks generic netlink (linux/ip_vs.h, family "IPVS") over the netlink
// sockets of vishvananda/netlink. moby/ipvs is not used to program, because
// opening it executes modprobe, which is not ours to do on a host and costs
// 0.25 s in User-Mode Linux, because its receive loop has no deadline, and
// because a failed family look-up sticks to the process. The tests read every
// service back through moby/ipvs, as a second opinion.
//
// Nothing here loads the ip_vs module: Open asks for the list of families,
// which, unlike asking for one by name, makes the kernel load nothing. Adding a
// service may make the kernel load the module of its scheduler.
package ipvs
