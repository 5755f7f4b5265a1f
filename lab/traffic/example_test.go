package traffic_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/pmtulab/pmtulab/lab/traffic"
)

// host stands for a node of a lab: the process's own network.
type host struct{}

func (host) Listen(ctx context.Context, c *net.ListenConfig, network, address string) (net.Listener, error) {
	return c.Listen(ctx, network, address)
}

func (host) Dial(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error) {
	return d.DialContext(ctx, network, address)
}

// One request of exactly 1448 bytes on the wire.
func Example() {
	ctx := context.Background()
	ca, err := traffic.NewCA(netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		fmt.Println(err)
		return
	}
	server, err := traffic.Serve(ctx, host{}, "127.0.0.1:14430", ca, traffic.TLS{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	conn, err := traffic.Open(ctx, host{}, ca, traffic.Options{Address: "127.0.0.1:14430"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	x, err := conn.Request(ctx, 1448)
	fmt.Println(x.Bytes, x.Status, err)
	// Output: 1448 200 <nil>
}
