//go:build linux

package lab

import (
	"net/netip"

	"github.com/pmtulab/pmtulab/topology"
)

// report is the network of the field report: a client, a load balancer and a
// real server on one Ethernet segment. With ipvs false the load balancer has no
// service and the real server no tunnel: what any kernel can bring up.
func report(ipvs bool) topology.Spec {
	end := func(node, mac, address string) topology.End {
		return topology.End{
			Node: node, Name: "eth0", MTU: 1500, MAC: mac,
			Addresses: []netip.Prefix{netip.MustParsePrefix(address)},
		}
	}
	spec := topology.Spec{
		Name: "report",
		Nodes: []topology.Node{
			{Name: "client"},
			{Name: "lb", Loopback: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/32")}},
			{Name: "real", Sysctls: map[string]string{
				"net.ipv4.conf.all.arp_ignore":   "1",
				"net.ipv4.conf.all.arp_announce": "2",
			}},
		},
		Segments: []topology.Segment{{Name: "lan", Ports: []topology.End{
			end("client", "02:00:00:00:00:01", "10.0.0.1/24"),
			end("lb", "02:00:00:00:00:05", "10.0.0.5/24"),
			end("real", "02:00:00:00:00:06", "10.0.0.6/24"),
		}}},
	}
	if ipvs {
		spec.Nodes[1].Services = []topology.VirtualService{{
			Address: netip.MustParseAddr("10.0.0.2"), Port: 443, Protocol: "tcp", Scheduler: "rr",
			RealServers: []topology.RealServerEntry{{Address: netip.MustParseAddr("10.0.0.6"), Forwarding: topology.Tunneling}},
		}}
		spec.Nodes[2].Tunnels = []topology.Tunnel{{
			Name: "ipip0", Mode: topology.IPIP, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/32")},
		}}
	}
	return spec
}
