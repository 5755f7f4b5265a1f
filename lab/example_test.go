//go:build linux

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
}
