//go:build linux && kernel

package evidence_test

import (
	"testing"

	"github.com/pmtulab/pmtulab/lab/evidence"
)

// The costs of looking, on the kernel at hand: go test -tags kernel -bench .
func BenchmarkSnapshot(b *testing.B) {
	o := observe(b, newNode(b, "client"))
	for b.Loop() {
		_, err := o.Snapshot()
		must(b, err)
	}
}

func BenchmarkExceptions(b *testing.B) {
	n := newNetwork(b)
	client, server := n.connect(b)
	must(b, exchange(client, server, 1448))
	o := observe(b, n.client)
	for b.Loop() {
		_, err := o.Exceptions()
		must(b, err)
	}
}

func BenchmarkSample(b *testing.B) {
	n := newNetwork(b)
	client, _ := n.connect(b)
	local, remote := endpoints(client)
	o := observe(b, n.client)
	for b.Loop() {
		_, err := o.Sample(n.client, local, remote)
		must(b, err)
	}
}

// BenchmarkPacket sends datagrams over lo with and without a capture; the
// difference is what the capture costs, decoding included.
func BenchmarkPacket(b *testing.B) {
	for _, captured := range []bool{false, true} {
		name := "bare"
		if captured {
			name = "captured"
		}
		b.Run(name, func(b *testing.B) {
			client := newNode(b, "client")
			if captured {
				observe(b, client)
			}
			b.ResetTimer()
			sendLoopback(b, client, b.N)
		})
	}
}

func observe(b *testing.B, n *node) *evidence.Observer {
	b.Helper()
	o, err := evidence.Start(b.Context(), evidence.Config{Nodes: []evidence.Node{n}})
	must(b, err)
	b.Cleanup(func() {
		if _, err := o.Stop(); err != nil {
			b.Error(err)
		}
	})
	return o
}
