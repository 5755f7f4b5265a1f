package evidence_test

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/pmtulab/pmtulab/lab/evidence"
	"github.com/pmtulab/pmtulab/lab/record"
)

// What one request did: counters before and after, its socket in between, and
// every packet. The nodes are those of a lab, which needs root and a kernel.
func ExampleStart() {
	var (
		ctx           = context.Background()
		client, lb    evidence.Node // lab.Node("client"), lab.Node("lb")
		local, remote netip.AddrPort
		request       func() error
	)
	run := func() error {
		o, err := evidence.Start(ctx, evidence.Config{Nodes: []evidence.Node{client, lb}})
		if err != nil {
			return err
		}
		before, err := o.Snapshot()
		if err != nil {
			return err
		}
		o.Mark("write the request")
		o.Watch(client, "B", record.AppLeg, local, remote)
		if err := request(); err != nil {
			return err
		}
		o.Unwatch(local, remote)
		after, err := o.Snapshot()
		if err != nil {
			return err
		}
		seen, err := o.Stop()
		if err != nil {
			return err
		}
		fmt.Println("refused by its own kernel:", evidence.Delta(before, after)["client"]["Ip.FragFails"])
		for _, e := range seen.Events {
			fmt.Printf("%s %.3f ms %s %s\n", e.ID, e.At, e.Node, e.Text)
		}
		return nil
	}
	_ = run
}
