//go:build linux && kernel

package lab_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/pmtulab/pmtulab/lab"
	"github.com/pmtulab/pmtulab/topology"
)

// A network of two nodes on one segment, up for as long as it takes to connect.
// As root.
func Example() {
	spec, err := topology.Parse("pair.yaml", []byte(`
name: pair
nodes:
  - name: client
  - name: server
segments:
  - name: lan
    ports:
      - {node: client, addresses: [10.0.0.1/24]}
      - {node: server, addresses: [10.0.0.2/24], mtu: 1400}
`))
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	l, err := lab.Up(ctx, spec)
	var missing *lab.MissingError
	if errors.As(err, &missing) {
		log.Fatalf("cannot run here; %s", missing.Remedy)
	} else if err != nil {
		log.Fatal(err)
	}
	defer l.Close()

	server, err := l.Node("server").Listen(ctx, nil, "tcp4", "10.0.0.2:80")
	if err != nil {
		log.Print(err)
		return
	}
	defer server.Close()
	c, err := l.Node("client").Dial(ctx, nil, "tcp4", "10.0.0.2:80")
	if err != nil {
		log.Print(err)
		return
	}
	defer c.Close()
	fmt.Println("connected to", c.RemoteAddr())
	// Output: connected to 10.0.0.2:80
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
