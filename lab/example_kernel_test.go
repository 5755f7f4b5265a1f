//go:build linux && kernel

package lab_test

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/pmtulab/pmtulab/lab"
	"github.com/pmtulab/pmtulab/topology"
)

// Two nodes and a cable; one byte goes over it.
func Example() {
	ctx := context.Background()
	l, err := lab.Up(ctx, topology.Spec{
		Name:  "pair",
		Nodes: []topology.Node{{Name: "client"}, {Name: "server"}},
		Links: []topology.Link{{Ends: [2]topology.End{
			{Node: "client", MTU: 1400, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}},
			{Node: "server", MTU: 1400, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24")}},
		}}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()

	listener, err := l.Node("server").Listen(ctx, nil, "tcp4", "10.0.0.2:80")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer listener.Close()
	conn, err := l.Node("client").Dial(ctx, nil, "tcp4", "10.0.0.2:80")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	fmt.Println(conn.RemoteAddr(), "over an MTU of", l.Links()[0].MTU)
	// Output: 10.0.0.2:80 over an MTU of 1400
}

// Inside Do the calling code is in the node; a socket that is opened there
// stays there.
func ExampleNode_Do() {
	l, err := lab.Up(context.Background(), topology.Spec{Name: "one", Nodes: []topology.Node{{Name: "alone"}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()
	n := l.Node("alone")
	if err := n.SetSysctl("net.ipv4.tcp_mtu_probing", "1"); err != nil {
		fmt.Println(err)
		return
	}
	var text []byte
	err = n.Do(func() (err error) {
		text, err = n.ReadFile("/proc/sys/net/ipv4/tcp_mtu_probing")
		return err
	})
	fmt.Printf("%s%v\n", text, err)
	// Output:
	// 1
	// <nil>
}
