// The functions that are watched.

package ktrace

import "slices"

// function is a kernel function to watch.
type function struct {
	name string
	// params are its parameters, as the kernel's source names them, up to the
	// last that matters.
	params []string
	// space is the path to the inode number of its network namespace.
	space string
	// ends are the paths to the endpoints of the connection.
	ends endpoints
	// values are the arguments that are recorded.
	values []value
	// returns is the type of the return value, where that decides.
	returns string
	// only is a condition on values for the kernel to record the call.
	only string
	// keep tells the calls that are worth telling; nil keeps all.
	keep func(Call) bool
	// refuses has only calls that sent an ICMP be told.
	refuses bool
	// instead is the function that tells of this one where the compiler has
	// inlined it.
	instead string
}

// value is something that a probe fetches.
type value struct {
	name, path string
	// network tells that it is in network byte order.
	network bool
}

// endpoints says where the addresses and ports of a connection are.
type endpoints struct {
	source, destination, sourcePort, destinationPort value
	// packet is the path to the IP header that they are behind, if any.
	packet string
}

// roots are the types of the parameters that paths start from.
var roots = map[string]string{
	"sk": "sock", "skb": "sk_buff", "skb_in": "sk_buff", "rt": "rtable", "nhc": "fib_nh_common", "net": "net",
}

const (
	socketSpace = "sk.__sk_common.skc_net.net.ns.inum"
	deviceSpace = "dev.nd_net.net.ns.inum"
)

// socketEnds are those of the struct sock *sk. Its own port is in host order.
var socketEnds = endpoints{
	source:          value{"source", "sk.__sk_common.skc_rcv_saddr", true},
	destination:     value{"destination", "sk.__sk_common.skc_daddr", true},
	sourcePort:      value{"source_port", "sk.__sk_common.skc_num", false},
	destinationPort: value{"destination_port", "sk.__sk_common.skc_dport", true},
}

// packetEnds are those of the packet in skb, whose data begins with its IP header
// wherever packets are refused for their length; for tcp_v4_err it is the one
// that the ICMP quotes.
func packetEnds(skb string) endpoints {
	return endpoints{
		source:          value{"source", skb + ".data.+12:u32", true},
		destination:     value{"destination", skb + ".data.+16:u32", true},
		sourcePort:      value{"source_port", skb + ".data.+20:u16", true},
		destinationPort: value{"destination_port", skb + ".data.+22:u16", true},
		packet:          skb + ".data",
	}
}

// socketFunction is a function whose first parameter is a socket.
func socketFunction(name string, params ...string) function {
	return function{name: name, params: append([]string{"sk"}, params...), space: socketSpace, ends: socketEnds}
}

// functions are in the order of their part in the story: a segment is refused,
// the ICMP comes, the path MTU is learned, the data waits, and is sent.
func functions() []function {
	writes := socketFunction("tcp_write_xmit", "mss_now")
	writes.values = []value{{"mss_now", "mss_now", false}}
	writes.returns, writes.keep = "u8", decided // true: nothing in flight, data left

	transmits := socketFunction("__tcp_transmit_skb")
	transmits.returns, transmits.keep = "s32", decided

	syncs := socketFunction("tcp_sync_mss", "pmtu")
	syncs.values, syncs.returns = []value{{"pmtu", "pmtu", false}}, "s32"

	// It is called whenever a socket is released; what was deferred is the MTU.
	released := socketFunction("tcp_release_cb")
	released.values, released.only = []value{{"tsq_flags", "sk.sk_tsq_flags", false}}, "tsq_flags & 32" // TCPF_MTU_REDUCED_DEFERRED

	wakes := socketFunction("tcp_write_wakeup")
	wakes.returns = "s32"

	checks := socketFunction("tcp_v4_send_check", "skb")
	checks.instead = "tcp_write_wakeup"
	checks.keep = func(c Call) bool { return slices.Contains(c.Stack, "tcp_write_wakeup") }

	probeTimer := socketFunction("tcp_probe_timer")
	probeTimer.instead = "tcp_send_probe0"
	probing := socketFunction("tcp_check_probe_timer")
	probing.instead = "tcp_write_xmit"

	return []function{
		writes,
		transmits,
		{
			name: "ip_fragment", params: []string{"net", "sk", "skb", "mtu"}, space: "net.ns.inum", ends: packetEnds("skb"),
			values: []value{{"mtu", "mtu", false}}, returns: "s32",
		},
		{
			name: "ip_vs_tunnel_xmit", params: []string{"skb"}, space: "skb." + deviceSpace, ends: packetEnds("skb"),
			values: []value{{"len", "skb.len", false}}, refuses: true,
		},
		{
			name: "ensure_mtu_is_adequate", params: []string{"ipvs", "skb_af", "rt_mode", "ipvsh", "skb"},
			space: "skb." + deviceSpace, ends: packetEnds("skb"), refuses: true, instead: "ip_vs_tunnel_xmit",
		},
		{
			name: "__icmp_send", params: []string{"skb_in", "type", "code", "info"}, space: "skb_in." + deviceSpace, ends: packetEnds("skb_in"),
			values: []value{{"type", "type", false}, {"code", "code", false}, {"info", "info", true}},
		},
		{
			name: "tcp_v4_err", params: []string{"skb", "info"}, space: "skb." + deviceSpace, ends: packetEnds("skb"),
			values: []value{{"info", "info", false}},
		},
		released,
		socketFunction("tcp_v4_mtu_reduced"),
		{
			name: "__ip_rt_update_pmtu", params: []string{"rt", "fl4", "mtu"}, space: "rt.dst." + deviceSpace,
			values: []value{{"mtu", "mtu", false}},
		},
		{
			name: "update_or_create_fnhe", params: []string{"nhc", "daddr", "gw", "pmtu"}, space: "nhc.nhc_" + deviceSpace,
			values: []value{{"pmtu", "pmtu", false}},
		},
		syncs,
		socketFunction("tcp_simple_retransmit"),
		probing,
		probeTimer,
		socketFunction("tcp_send_probe0"),
		wakes,
		checks,
	}
}

// decided keeps the calls that returned something else than 0.
func decided(c Call) bool { return c.Returned != nil && *c.Returned != 0 }
