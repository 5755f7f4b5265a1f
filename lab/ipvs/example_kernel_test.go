//go:build linux && kernel

package ipvs_test

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/pmtulab/pmtulab/lab"
	"github.com/pmtulab/pmtulab/lab/ipvs"
	"github.com/pmtulab/pmtulab/topology"
)

// A virtual service in a node that a topology has made, changed while it runs.
func Example() {
	l, err := lab.Up(context.Background(), topology.Spec{Name: "one", Nodes: []topology.Node{{Name: "lb"}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()
	h, err := ipvs.Open(l.Node("lb").Do)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer h.Close()
	err = h.Add(ipvs.Service{
		Address: netip.MustParseAddr("10.0.0.2"), Port: 443, Protocol: ipvs.TCP, Scheduler: "rr",
		Destinations: []ipvs.Destination{{Address: netip.MustParseAddr("10.0.0.6"), Port: 443, Forwarding: ipvs.Tunnel, Weight: 1}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	services, err := h.Services()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, s := range services {
		fmt.Println(s.Address, s.Port, s.Scheduler, s.Destinations[0].Address, s.Destinations[0].Forwarding)
	}
	// Output: 10.0.0.2 443 rr 10.0.0.6 Tunnel
}
