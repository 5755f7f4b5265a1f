//go:build linux

// This file knows the sysctls that the lab depends on and the order in which
// sysctls must be written.

package lab

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/topology"
)

// SysctlError is the error for a sysctl that could not be read or written.
type SysctlError struct {
	Node, Key string
	// Err wraps fs.ErrNotExist when this kernel has no such sysctl, or has it
	// only outside of namespaces.
	Err error
}

// Error names node and key, and what a missing key means.
func (e *SysctlError) Error() string {
	if errors.Is(e.Err, fs.ErrNotExist) {
		return fmt.Sprintf("sysctl %s of node %s: this kernel does not have it in a network namespace: %v", e.Key, e.Node, e.Err)
	}
	return fmt.Sprintf("sysctl %s of node %s: %v", e.Key, e.Node, e.Err)
}

// Unwrap returns the cause.
func (e *SysctlError) Unwrap() error { return e.Err }

// sysctl is one value to write.
type sysctl struct {
	key, value string
	// optional: the key may be absent, then it cannot matter.
	optional bool
}

// quiet are the sysctls of every namespace, segments included.
func quiet() []sysctl {
	return []sysctl{
		// No router solicitations or duplicate address detection among the
		// packets. Absent without IPv6, and then there are none.
		optional("net.ipv6.conf.all.disable_ipv6", "1"),
		optional("net.ipv6.conf.default.disable_ipv6", "1"),
		// With br_netfilter loaded on the host, bridged packets would be
		// reassembled by connection tracking. Absent without it.
		optional("net.bridge.bridge-nf-call-iptables", "0"),
		optional("net.bridge.bridge-nf-call-ip6tables", "0"),
		optional("net.bridge.bridge-nf-call-arptables", "0"),
	}
}

func required(key, value string) sysctl { return sysctl{key: key, value: value} }
func optional(key, value string) sysctl { return sysctl{key: key, value: value, optional: true} }

// baseline are the sysctls that the lab depends on. A new namespace copies
// net.ipv4.conf.all and .default, and the TCP buffers, from the initial one, so
// a host with settings of its own would change results; the rest are the
// kernel's defaults, written so that they are on record. A Spec overrides each.
func baseline() []sysctl {
	list := append(quiet(),
		// A host does not forward; routers say so in the Spec.
		required("net.ipv4.ip_forward", "0"),
		// Path-MTU discovery on: DF is set and frag-needed is heeded.
		required("net.ipv4.ip_no_pmtu_disc", "0"),
		// MSS 12 bytes smaller, as on every real network.
		required("net.ipv4.tcp_timestamps", "1"),
		required("net.ipv4.tcp_sack", "1"),
		required("net.ipv4.tcp_window_scaling", "1"),
		// Probing would find the path MTU without ICMP and hide black holes.
		required("net.ipv4.tcp_mtu_probing", "0"),
		// The buffers decide how much one write puts on the wire.
		required("net.ipv4.tcp_rmem", "4096 131072 6291456"),
		required("net.ipv4.tcp_wmem", "4096 16384 4194304"),
		// No ICMP is held back. (Frag-needed never is: icmpv4_mask_allow.)
		required("net.ipv4.icmp_ratelimit", "0"),
	)
	for _, scope := range []string{"all", "default"} {
		for _, c := range []sysctl{
			// Direct answers of a real server and tunnelled packets arrive
			// where their source is not routed to. The maximum of all and
			// the device counts.
			required("rp_filter", "0"),
			required("accept_local", "0"),
			required("route_localnet", "0"),
			// ARP as in RFC 826; a real server that holds the VIP needs
			// other values, which the Spec gives.
			required("arp_ignore", "0"),
			required("arp_announce", "0"),
			required("arp_filter", "0"),
			required("proxy_arp", "0"),
			// ICMP redirects make routing exceptions, which would be
			// mistaken for those of path-MTU discovery.
			required("accept_redirects", "0"),
			required("send_redirects", "0"),
		} {
			c.key = "net.ipv4.conf." + scope + "." + c.key
			list = append(list, c)
		}
	}
	return list
}

// splitSysctls merges a Spec's sysctls over a baseline, in the order of
// writing: general ones before any interface exists, so that interfaces inherit
// from conf.default, and those of one interface, by its name, once it is made.
func splitSysctls(baseline []sysctl, spec map[string]string) (general []sysctl, byInterface map[string][]sysctl) {
	merged := make(map[string]sysctl) // by path: keys have several spellings
	for _, s := range baseline {
		merged[pathOf(s.key)] = s
	}
	for key, value := range spec {
		merged[pathOf(key)] = sysctl{key: key, value: value}
	}
	byInterface = make(map[string][]sysctl)
	for _, path := range slices.SortedFunc(maps.Keys(merged), comparePaths) {
		if iface := topology.SysctlInterface(path); iface != "" && iface != "all" && iface != "default" {
			byInterface[iface] = append(byInterface[iface], merged[path])
		} else {
			general = append(general, merged[path])
		}
	}
	return general, byInterface
}

// pathOf is the path of a key, or for a key that is none the key itself: writing
// it will fail, and say why.
func pathOf(key string) string {
	path, err := topology.SysctlPath(key)
	if err != nil {
		return key
	}
	return path
}

// comparePaths orders by rank, then by name.
func comparePaths(a, b string) int {
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
}

// rank of a sysctl: switching forwarding resets others (inet_forward_change sets
// accept_redirects), and some of all are copied to default.
func rank(path string) int {
	switch {
	case path == "net/ipv4/ip_forward":
		return 0
	case strings.HasSuffix(path, "/forwarding"):
		return 1
	case strings.Contains(path, "/conf/all/"):
		return rankAll
	default:
		return rankAll + 1
	}
}

const rankAll = 2

// fresh are the values that sysctls have in a new namespace, by path, "" for one
// that there is not. All namespaces of a lab begin with the same: the kernel's
// defaults, or copies of another namespace's values
// (net.core.devconf_inherit_init_net), which this process may not be able to
// see. So they are read in the first namespace, and only what differs is written
// in each: with 40 files to open for each node, that was half of the time of
// bringing a lab up.
type fresh map[string]string

// read notes the values of a list; it runs inside a new namespace.
func (f fresh) read(list []sysctl) {
	for _, s := range list {
		// One that cannot be read is written, and then says why.
		value, err := readSysctl(s.key)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			f[pathOf(s.key)] = oneLine(value)
		}
	}
}

// changes are the sysctls of a list that a new namespace has not. Forwarding
// changes others when it is switched, so after it all are written.
func (f fresh) changes(list []sysctl) []sysctl {
	var out []sysctl
	for i, s := range list {
		path := pathOf(s.key)
		if value, known := f[path]; known && (value == oneLine(s.value) || value == "" && s.optional) {
			continue
		}
		if rank(path) < rankAll {
			return list[i:]
		}
		out = append(out, s)
	}
	return out
}

// oneLine is a value with one blank between its words.
func oneLine(value string) string { return strings.Join(strings.Fields(value), " ") }

// writeSysctls writes values of a node; it runs inside it.
func writeSysctls(node string, list []sysctl) error {
	var errs []error
	for _, s := range list {
		err := writeSysctl(s.key, s.value)
		if err != nil && (!s.optional || !errors.Is(err, fs.ErrNotExist)) {
			errs = append(errs, &SysctlError{Node: node, Key: s.key, Err: err})
		}
	}
	return errors.Join(errs...)
}

// writeSysctl writes one value. The errors of this and of readSysctl become a
// SysctlError, which names the key.
func writeSysctl(key, value string) error {
	path, err := topology.SysctlPath(key)
	if err != nil {
		return err //nolint:wrapcheck // see above
	}
	// Plain system calls: package os would offer each file to epoll, and a
	// node has dozens of them.
	fd, err := unix.Open("/proc/sys/"+path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err //nolint:wrapcheck // see above
	}
	_, err = unix.Write(fd, []byte(value))
	return errors.Join(err, unix.Close(fd))
}

func readSysctl(key string) (string, error) {
	path, err := topology.SysctlPath(key)
	if err != nil {
		return "", err //nolint:wrapcheck // see above
	}
	fd, err := unix.Open("/proc/sys/"+path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err //nolint:wrapcheck // see above
	}
	value := make([]byte, 4096) // the kernel gives no more at once
	n, err := unix.Read(fd, value)
	return strings.TrimSpace(string(value[:max(0, n)])), errors.Join(err, unix.Close(fd))
}
