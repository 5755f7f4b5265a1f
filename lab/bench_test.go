//go:build linux && kernel

package lab

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab/wait"
	"github.com/pmtulab/pmtulab/topology"
)

// sizes are the networks that are measured: the report's, without service and
// tunnel, and segments of so many nodes.
func sizes() []topology.Spec {
	specs := []topology.Spec{report(false)}
	specs[0].Name = "report"
	for _, n := range []int{50, 200, 500} {
		spec := topology.Spec{Name: fmt.Sprintf("nodes-%d", n), Segments: []topology.Segment{{Name: "lan"}}}
		for i := range n {
			name := fmt.Sprintf("n%d", i)
			spec.Nodes = append(spec.Nodes, topology.Node{Name: name})
			spec.Segments[0].Ports = append(spec.Segments[0].Ports, topology.End{Node: name})
		}
		specs = append(specs, spec)
	}
	return specs
}

// median reports the median of what f returns, in milliseconds; the mean of all
// runs, ns/op, has what others do to the machine in it.
//
// The kernel takes a network apart in the background, holding RTNL, about 2 ms
// for each node. A run waits until the one before is gone.
func median(b *testing.B, unit string, nodes int, f func() time.Duration) {
	b.Helper()
	var all []time.Duration
	for b.Loop() {
		all = append(all, f())
		if err := wait.For(b.Context(), 20*time.Millisecond+time.Duration(nodes)*4*time.Millisecond); err != nil {
			b.Fatal(err)
		}
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2])/1e6, unit)
	b.ReportMetric(0, "ns/op")
}

// BenchmarkUp brings networks up; the time ends when every link carries packets.
func BenchmarkUp(b *testing.B) {
	for _, spec := range sizes() {
		b.Run(spec.Name, func(b *testing.B) {
			median(b, "ms/up", len(spec.Nodes), func() time.Duration {
				start := time.Now()
				l, err := Up(context.Background(), spec)
				took := time.Since(start)
				if err != nil {
					b.Fatal(err)
				}
				if err := l.Close(); err != nil {
					b.Fatal(err)
				}
				return took
			})
		})
	}
}

// BenchmarkDown takes them down: what the caller of Close waits for. The kernel
// frees namespaces in the background (cleanup_net), and the next lab may have to
// wait for it.
func BenchmarkDown(b *testing.B) {
	for _, spec := range sizes() {
		b.Run(spec.Name, func(b *testing.B) {
			median(b, "ms/down", len(spec.Nodes), func() time.Duration {
				l, err := Up(context.Background(), spec)
				if err != nil {
					b.Fatal(err)
				}
				start := time.Now()
				if err := l.Close(); err != nil {
					b.Fatal(err)
				}
				return time.Since(start)
			})
		})
	}
}

// BenchmarkFloor is what the same networks cost at the least: the namespaces, one
// open socket in each, and the requests to routing netlink without which there is
// no network. Nothing is set, checked or waited for: no sysctl, no offload, no
// carrier.
func BenchmarkFloor(b *testing.B) {
	home, err := openHome()
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(home)
	for _, spec := range sizes() {
		b.Run(spec.Name, func(b *testing.B) {
			spec := spec.WithDefaults()
			requests := 0
			median(b, "ms/up", len(spec.Nodes), func() time.Duration {
				start := time.Now()
				var all []*network
				all, requests = floor(b, home, spec)
				took := time.Since(start)
				for _, n := range all {
					if err := n.close(); err != nil {
						b.Fatal(err)
					}
				}
				return took
			})
			b.ReportMetric(float64(requests), "requests/op")
		})
	}
}

func floor(b *testing.B, home int, spec topology.Spec) (all []*network, requests int) {
	b.Helper()
	check := func(err error) {
		requests++
		if err != nil {
			b.Fatal(err)
		}
	}
	bare := func(name string) *network {
		n := &network{namespace: &namespace{fd: -1, home: home}, name: name, ethtool: -1, links: map[string]int{"lo": 1}}
		if err := n.create(n.open); err != nil {
			b.Fatal(err)
		}
		all = append(all, n)
		return n
	}
	lan := bare("lan")
	check(addBridge(lan))
	for _, port := range spec.Segments[0].Ports {
		n := bare(port.Node)
		a := vethEnd{net: lan, name: n.name, mtu: port.MTU, master: lan.links[bridgeName]}
		check(addVeth(a, vethEnd{net: n, name: port.Name, mtu: port.MTU}))
		if len(port.Addresses) > 0 {
			check(n.addAddresses(port.Name, port.Addresses))
		}
		check(n.setUp(port.Name))
	}
	return all, requests
}

// BenchmarkMininet is the same as Up/report in Mininet: four hosts and a bridge,
// in a network namespace of its own, since Mininet works in the one it is
// started in. It needs the Debian package mininet.
func BenchmarkMininet(b *testing.B) {
	if err := exec.CommandContext(b.Context(), "/usr/bin/python3", "-c", "import mininet").Run(); err != nil {
		b.Skip("Mininet is not installed")
	}
	const script = `
import time
from mininet.net import Mininet
from mininet.nodelib import LinuxBridge
from mininet.topo import SingleSwitchTopo
for _ in range(%d):
    start = time.time()
    net = Mininet(SingleSwitchTopo(4), switch=LinuxBridge, controller=None)
    net.start()
    print(time.time() - start, flush=True)
    net.stop()
`
	var all []float64
	for b.Loop() {
		all = all[:0]
		cmd := exec.CommandContext(b.Context(), "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child",
			"bash", "-c", `mount -t proc proc /proc; mount -t sysfs sysfs /sys; ip link set lo up; exec /usr/bin/python3 -c "$0"`, fmt.Sprintf(script, 10))
		out, err := cmd.Output()
		if err != nil {
			if failed, ok := errors.AsType[*exec.ExitError](err); ok {
				out = failed.Stderr
			}
			b.Fatalf("%v\n%s", err, out)
		}
		for line := range strings.Lines(string(out)) {
			var seconds float64
			if _, err := fmt.Sscan(line, &seconds); err == nil {
				all = append(all, seconds)
			}
		}
	}
	if len(all) == 0 {
		b.Fatal("Mininet printed no times")
	}
	slices.Sort(all)
	b.ReportMetric(1e3*all[len(all)/2], "ms/up")
	b.ReportMetric(0, "ns/op")
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
		ns := &namespace{fd: -1, home: home}
		if err := ns.create(func() error { return nil }); err != nil {
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
