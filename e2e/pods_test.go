//go:build linux && kernel

package e2e

import (
	"net/netip"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/scenario"
	"github.com/pmtulab/pmtulab/topology"
)

// A network that is not the report's, to copy from: two real servers behind one
// VIP, and two pods. A PMTU exception belongs to a network namespace, so two
// containers of one pod, or two pods in the host's network, share what one of
// them has learned; a pod with a namespace of its own does not.
//
//	pod ─────┐
//	other ───┤                      ┌── real1, weight 2
//	         ├── lan ── lb: VIP ────┤
//	real1 ───┤                      └── real2, weight 1
//	real2 ───┘
var pods = topology.Spec{
	Name: "pods",
	Nodes: []topology.Node{
		{Name: "pod", Kind: topology.Client},
		{Name: "other", Kind: topology.Client},
		{
			Name: "lb", Kind: topology.LoadBalancer, Loopback: prefixes("10.0.0.2/32"),
			Services: []topology.VirtualService{{
				Address: vip, Port: 443, Scheduler: "wrr",
				RealServers: []topology.RealServerEntry{
					{Address: netip.MustParseAddr("10.0.0.6"), Forwarding: topology.Tunneling, Weight: new(2)},
					{Address: netip.MustParseAddr("10.0.0.7"), Forwarding: topology.Tunneling, Weight: new(1)},
				},
			}},
		},
		realServer("real1"), realServer("real2"),
	},
	Segments: []topology.Segment{{Name: "lan", Ports: []topology.End{
		{Node: "pod", Addresses: prefixes("10.0.0.1/24")},
		{Node: "other", Addresses: prefixes("10.0.0.3/24")},
		{Node: "lb", Addresses: prefixes("10.0.0.5/24")},
		{Node: "real1", Addresses: prefixes("10.0.0.6/24")},
		{Node: "real2", Addresses: prefixes("10.0.0.7/24")},
	}}},
}

// realServer holds the VIP on its tunnel device, and keeps quiet about it.
func realServer(name string) topology.Node {
	return topology.Node{
		Name: name, Kind: topology.RealServer,
		Sysctls: map[string]string{"net.ipv4.conf.all.arp_ignore": "1", "net.ipv4.conf.all.arp_announce": "2"},
		Tunnels: []topology.Tunnel{{Name: "ipip0", Mode: topology.IPIP, Addresses: prefixes("10.0.0.2/32")}},
	}
}

func prefixes(text string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(text)} }

// inPods is an experiment in that network, with connections from the named nodes.
func inPods(from map[string]string, steps ...scenario.Step) scenario.Scenario {
	at := netip.AddrPortFrom(vip, 443)
	s := scenario.Scenario{
		Name: "pods", Topology: pods, Steps: steps,
		Servers: []scenario.Server{{Node: "real1", Address: at}, {Node: "real2", Address: at}},
	}
	for name, node := range from {
		s.Connections = append(s.Connections, scenario.Connection{Name: name, From: node, To: at})
	}
	return s
}

// big is a request of one full segment.
func big(connection string) scenario.Step {
	return scenario.Step{Request: &scenario.RequestStep{Connection: connection, Segments: 1, Timeout: 5 * time.Second}}
}

var _ = Describe("Two pods before two real servers", needsOf(inPods(nil)), func() {
	It("share connections by weight", func(ctx SpecContext) {
		from := map[string]string{}
		var steps []scenario.Step
		for _, name := range []string{"A", "B", "C", "D", "E", "F"} {
			from[name] = "other"
			steps = append(steps, scenario.Step{Open: name})
		}
		r := perform(ctx, inPods(from, steps...))
		Expect(r.Counters["lb"]).To(HaveKeyWithValue("Ipvs.Connections", BeEquivalentTo(6)))
		Expect(r.Counters["real1"]).To(HaveKeyWithValue("Tcp.PassiveOpens", BeEquivalentTo(4)), "weight 2")
		Expect(r.Counters["real2"]).To(HaveKeyWithValue("Tcp.PassiveOpens", BeEquivalentTo(2)), "weight 1")
	})

	It("stall when a neighbour in the same namespace has learned the path MTU, and not when another pod has", func(ctx SpecContext) {
		r := perform(ctx, inPods(
			map[string]string{"elsewhere": "other", "neighbour": "pod", "idle": "pod"},
			scenario.Step{Open: "elsewhere"}, scenario.Step{Open: "neighbour"}, scenario.Step{Open: "idle"},
			scenario.Step{Quiet: []string{"elsewhere", "neighbour", "idle"}},
			big("elsewhere"), big("neighbour"), big("idle"),
		))
		class := func(name string) record.Class { return request(r, name).Class }
		Expect(class("elsewhere")).To(Equal(record.PMTURetransmit), "%v", request(r, "elsewhere").ClassReasons)
		Expect(class("neighbour")).To(Equal(record.PMTURetransmit), "what another namespace has learned does not matter here")
		Expect(class("idle")).To(Equal(record.PMTUStall), "%v", request(r, "idle").ClassReasons)
		nodes := []string{}
		for _, x := range r.Exceptions {
			nodes = append(nodes, x.Node)
		}
		Expect(slices.Sorted(slices.Values(nodes))).To(Equal([]string{"other", "pod"}), "each namespace has an exception of its own")
	})
})
