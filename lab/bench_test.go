//go:build linux && kernel

package lab

import (
	"context"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/topology"
)

// BenchmarkUp brings the report's network up and down, without service and
// tunnel.
func BenchmarkUp(b *testing.B) {
	for b.Loop() {
		l, err := Up(context.Background(), report(false))
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkUpOf20 is a segment of 20 nodes.
func BenchmarkUpOf20(b *testing.B) {
	spec := topology.Spec{Name: "wide", Segments: []topology.Segment{{Name: "lan"}}}
	for i := range 20 {
		name := "node" + string(rune('a'+i))
		spec.Nodes = append(spec.Nodes, topology.Node{Name: name})
		spec.Segments[0].Ports = append(spec.Segments[0].Ports, topology.End{Node: name})
	}
	for b.Loop() {
		l, err := Up(context.Background(), spec)
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFloor is what the same network costs at the least: the namespaces and
// the requests to routing netlink without which there is no network, and nothing
// set, checked or waited for.
func BenchmarkFloor(b *testing.B) {
	home, err := openHome()
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(home)
	requests := 0
	for b.Loop() {
		requests = 0
		check := func(err error) {
			requests++
			if err != nil {
				b.Fatal(err)
			}
		}
		var all []*network
		for _, name := range []string{"lan", "client", "lb", "real"} {
			ns, err := newNamespace(home)
			if err != nil {
				b.Fatal(err)
			}
			n := &network{namespace: ns, name: name, ethtool: -1, links: map[string]int{"lo": 1}}
			if err := n.do(n.open); err != nil {
				b.Fatal(err)
			}
			all = append(all, n)
		}
		lan := all[0]
		check(addBridge(lan))
		for i, port := range report(false).Segments[0].Ports {
			n := all[i+1]
			a := vethEnd{net: lan, name: n.name, mtu: 1500, master: lan.links[bridgeName]}
			check(addVeth(a, vethEnd{net: n, name: "eth0", mtu: 1500}))
			check(n.addAddresses("eth0", port.Addresses))
			check(n.setUp("eth0"))
		}
		for _, n := range all {
			if err := n.close(); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(requests), "requests/op")
}

// BenchmarkDo is one visit to a namespace.
func BenchmarkDo(b *testing.B) {
	l := up(b, report(false))
	n := l.Node("client")
	for b.Loop() {
		if err := n.Do(func() error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkNamespace and BenchmarkBaseline are the two parts of the phase
// "namespaces".
func BenchmarkNamespace(b *testing.B) {
	home, err := openHome()
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(home)
	for b.Loop() {
		ns, err := newNamespace(home)
		if err != nil {
			b.Fatal(err)
		}
		if err := ns.close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBaseline(b *testing.B) {
	l := up(b, report(false))
	general, _ := splitSysctls(baseline(), nil)
	n := l.Node("client")
	b.ReportMetric(float64(len(general)), "sysctls/op")
	for b.Loop() {
		if err := n.Do(func() error { return writeSysctls("client", general) }); err != nil {
			b.Fatal(err)
		}
	}
}
