package scenario

import (
	"maps"
	"net/netip"
	"testing"

	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/topology"
)

func TestSnapLength(t *testing.T) {
	for _, c := range []struct{ mtu, want int }{{1280, 1514}, {1500, 1514}, {9000, 9014}} {
		links := []record.Link{{MTU: 576}, {MTU: c.mtu}}
		if got := snapLength(links); got != c.want {
			t.Errorf("MTU %d: %d bytes, want %d", c.mtu, got, c.want)
		}
	}
	for name, want := range map[string]int{
		"tx-checksumming": 1514, "tcp-segmentation-offload": 16384,
		"generic-segmentation-offload": 16384, "generic-receive-offload": 16384,
	} {
		links := []record.Link{{MTU: 1500}, {MTU: 1500, Offloads: map[string]bool{name: true}}}
		if got := snapLength(links); got != want {
			t.Errorf("%s: %d bytes, want %d", name, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	spec := topology.Spec{
		Nodes: []topology.Node{
			{Name: "client", Loopback: []netip.Prefix{prefix("10.9.9.9/32")}},
			{
				Name: "lb", Loopback: []netip.Prefix{prefix("10.0.0.2/32")},
				Services: []topology.VirtualService{{Address: addr("10.0.0.2"), Port: 443}},
			},
			{Name: "real", Tunnels: []topology.Tunnel{{Name: "ipip0", Addresses: []netip.Prefix{prefix("10.0.0.2/32")}}}},
		},
		Links: []topology.Link{{Ends: [2]topology.End{
			{Node: "lb", Addresses: []netip.Prefix{prefix("10.1.0.5/24")}},
			{Node: "real", Addresses: []netip.Prefix{prefix("10.1.0.6/24")}},
		}}},
		Segments: []topology.Segment{{Name: "lan", Ports: []topology.End{
			{Node: "client", Addresses: []netip.Prefix{prefix("10.0.0.1/24"), prefix("10.0.0.11/24")}},
			{Node: "lb", Addresses: []netip.Prefix{prefix("10.0.0.5/24")}},
		}}},
	}
	want := map[netip.Addr]string{
		addr("10.9.9.9"): "client", addr("10.0.0.1"): "client", addr("10.0.0.11"): "client",
		addr("10.0.0.5"): "lb", addr("10.1.0.5"): "lb", addr("10.1.0.6"): "real", addr("10.0.0.2"): "vip",
	}
	if got := names(spec); !maps.Equal(got, want) {
		t.Errorf("names %v, want %v", got, want)
	}
}
