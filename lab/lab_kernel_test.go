//go:build linux && kernel

// These tests run as root. Those whose names end in Guest need IPVS and IPIP as
// well, so a guest: what they would need of a host changes it (tunl0 appears).

package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab/capability"
	"github.com/pmtulab/pmtulab/lab/ipvs"
	"github.com/pmtulab/pmtulab/lab/sidecar"
	"github.com/pmtulab/pmtulab/lab/wait"
	"github.com/pmtulab/pmtulab/topology"
)

// deadline bounds each test that waits.
func deadline(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func up(t testing.TB, spec topology.Spec) *Lab {
	t.Helper()
	l, err := Up(deadline(t), spec)
	Require(t, err)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// echo sends a line from one node to a server in another and returns the time
// that connecting took.
func echo(t testing.TB, from, at *Node, address string) time.Duration {
	t.Helper()
	ctx := deadline(t)
	l, err := at.Listen(ctx, nil, "tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			// Not io.Copy: it splices, through pipes that outlive the test.
			var request []byte
			if request, err = io.ReadAll(c); err == nil {
				_, err = c.Write(request)
			}
			c.Close()
		}
		served <- err
	}()
	start := time.Now()
	c, err := from.Dial(ctx, &net.Dialer{KeepAlive: -1}, "tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	defer c.Close()
	until, _ := ctx.Deadline()
	if err := c.SetDeadline(until); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "hello\n" {
		t.Fatalf("read %q, %v", got, err)
	}
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	return took
}

// hostNetwork is the network of the namespace that the test started in, as text.
func hostNetwork(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	links, err := h.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		a := l.Attrs()
		fmt.Fprintln(&b, a.Index, a.Name, l.Type(), a.MTU, a.Flags, a.HardwareAddr)
	}
	addresses, err := h.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		fmt.Fprintln(&b, a.LinkIndex, a.IPNet)
	}
	routes, err := h.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		fmt.Fprintln(&b, r)
	}
	return b.String()
}

func TestHostIsUntouched(t *testing.T) {
	before := hostNetwork(t)
	l := up(t, report(false))
	echo(t, l.Node("client"), l.Node("real"), "10.0.0.6:80")
	if during := hostNetwork(t); during != before {
		t.Errorf("with the lab up the host has\n%s\nbefore it had\n%s", during, before)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if after := hostNetwork(t); after != before {
		t.Errorf("after the lab the host has\n%s\nbefore it had\n%s", after, before)
	}
}

func descriptors(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var fds []string
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil { // not the directory that was just read
			fds = append(fds, e.Name()+" "+target)
		}
	}
	return fds
}

// PMTULAB_CYCLES makes it longer; make soak has 1,000.
func TestNothingLeaks(t *testing.T) {
	Require(t, Probe(report(false)))
	cycles := 50
	if n, err := strconv.Atoi(os.Getenv("PMTULAB_CYCLES")); err == nil {
		cycles = n
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second+time.Duration(cycles)*time.Second/4)
	defer cancel()
	// The witness is a namespace outside of the lab with one end of a veth
	// pair; the other end is in the lab, and with it the witness loses its own.
	home, err := openHome()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(home)
	witness, err := newNetwork(home, "witness", fresh{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer witness.close()

	// The first lab starts what lives as long as the process: the poller,
	// idle threads.
	if err := up(t, report(false)).Close(); err != nil {
		t.Fatal(err)
	}
	fds, goroutines, before := descriptors(t), runtime.NumGoroutine(), threads(t)
	for i := range cycles {
		l, err := Up(ctx, report(false))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range l.networks() {
			here := vethEnd{net: witness, name: fmt.Sprintf("w%d-%s", i, n.name), mtu: 1500}
			if err := addVeth(here, vethEnd{net: n, name: "witness", mtu: 1500}); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	err = wait.Until(ctx, "goroutines, descriptors and namespaces to go", 10*time.Millisecond, func() error {
		if got := descriptors(t); !slices.Equal(got, fds) {
			return fmt.Errorf("descriptors %v, before %v", got, fds)
		}
		if got := runtime.NumGoroutine(); got > goroutines {
			return fmt.Errorf("%d goroutines, before %d", got, goroutines)
		}
		// The runtime keeps idle threads, a few more than it had.
		if got := threads(t); got > before+8 {
			return fmt.Errorf("%d threads, before %d", got, before)
		}
		links, err := witness.handle.LinkList()
		if err != nil {
			return err
		}
		for _, l := range links {
			if l.Type() == "veth" {
				return fmt.Errorf("namespace of %s is still there", l.Attrs().Name)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	t.Logf("%d cycles: %d descriptors, before %d; %d goroutines, before %d; %d threads, before %d; no namespace left",
		cycles, len(descriptors(t)), len(fds), runtime.NumGoroutine(), goroutines, threads(t), before)
}

// threads counts those of this process.
func threads(t *testing.T) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(tasks)
}

// dump is all that is deterministic of a lab, one line each: interfaces with
// MAC, MTU and offloads, and the addresses and sysctls in force.
func dump(t *testing.T, l *Lab) string {
	t.Helper()
	var b strings.Builder
	for _, s := range l.Links() {
		fmt.Fprintln(&b, s.Node, s.Interface, s.MAC, s.MTU, s.Offloads)
	}
	for _, n := range l.networks() {
		addresses, err := n.handle.AddrList(nil, unix.AF_INET)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range addresses {
			fmt.Fprintln(&b, n.name, a.IPNet, a.Label)
		}
	}
	for _, n := range l.Nodes() {
		value, err := n.Sysctl("net.ipv4.conf.all.arp_ignore")
		fmt.Fprintln(&b, n.Name(), value, err)
	}
	return b.String()
}

// Labs side by side, and in several processes at once, are as if alone.
func TestSideBySide(t *testing.T) {
	Require(t, Probe(report(false)))
	// All of them share the processor, in QEMU one that is emulated.
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	labs := func() []string {
		dumps := make([]string, 16)
		var all sync.WaitGroup
		for i := range dumps {
			all.Go(func() {
				l, err := Up(ctx, report(false))
				if err != nil {
					t.Error(err)
					return
				}
				dumps[i] = dump(t, l)
				echo(t, l.Node("client"), l.Node("real"), "10.0.0.6:80")
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		return dumps
	}
	const child = "PMTULAB_SIDE_BY_SIDE"
	if os.Getenv(child) != "" { // one of the processes
		fmt.Print(labs()[0])
		return
	}
	alone := up(t, report(false))
	want := dump(t, alone)
	if err := alone.Close(); err != nil {
		t.Fatal(err)
	}
	for i, got := range labs() {
		if got != want {
			t.Errorf("lab %d of 16 is\n%s\nalone it is\n%s", i, got, want)
		}
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestSideBySide$")
			cmd.Env = append(os.Environ(), child+"=1")
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.HasPrefix(string(out), want) {
				t.Errorf("a lab beside others, in another process, is %v\n%s\nalone it is\n%s", err, out, want)
			}
		})
	}
	all.Wait()
}

// A connection made the moment Up returns must not lose its first packets.
func TestFirstPacketIsNotLost(t *testing.T) {
	for range 20 {
		l := up(t, report(false))
		if took := echo(t, l.Node("client"), l.Node("real"), "10.0.0.6:80"); took > 500*time.Millisecond {
			t.Errorf("connecting took %v: the first SYN was lost", took)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// routed is a client and a server with a router between them on point-to-point
// links, the second of which has a smaller MTU.
func routed() topology.Spec {
	end := func(node, name, address string, mtu int) topology.End {
		return topology.End{Node: node, Name: name, MTU: mtu, Addresses: []netip.Prefix{netip.MustParsePrefix(address)}}
	}
	via := func(gateway string) []topology.Route {
		return []topology.Route{{To: topology.Default(), Via: netip.MustParseAddr(gateway)}}
	}
	return topology.Spec{
		Name: "routed",
		Nodes: []topology.Node{
			{Name: "client", Routes: via("10.1.0.254")},
			{Name: "router", Sysctls: map[string]string{"net.ipv4.ip_forward": "1"}},
			{Name: "server", Routes: via("10.2.0.254")},
		},
		Links: []topology.Link{
			{Ends: [2]topology.End{end("client", "eth0", "10.1.0.1/24", 9000), end("router", "left", "10.1.0.254/24", 9000)}},
			{Ends: [2]topology.End{end("router", "right", "10.2.0.254/24", 1400), end("server", "eth0", "10.2.0.1/24", 1400)}},
		},
	}
}

func TestRoutedLinks(t *testing.T) {
	for range 10 {
		l := up(t, routed())
		if took := echo(t, l.Node("client"), l.Node("server"), "10.2.0.1:80"); took > 500*time.Millisecond {
			t.Errorf("connecting took %v: the first SYN was lost", took)
		}
		for _, s := range l.Links() {
			want := 9000
			if s.Interface == "right" || s.Node == "server" {
				want = 1400
			}
			if s.MTU != want {
				t.Errorf("MTU of %s:%s is %d, want %d", s.Node, s.Interface, s.MTU, want)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLinksAreReadBack(t *testing.T) {
	spec := report(false)
	all := topology.Offloads{TSO: true, GSO: true, GRO: true, TxChecksum: true}
	spec.Segments[0].Ports[0].Offloads = all
	spec.Segments[0].Ports[1].Offloads = topology.Offloads{TxChecksum: true, GRO: true}
	l := up(t, spec)
	state := func(tso, gso, gro, checksum bool) map[string]bool {
		return map[string]bool{
			"tcp-segmentation-offload": tso, "generic-segmentation-offload": gso,
			"generic-receive-offload": gro, "tx-checksumming": checksum,
		}
	}
	want := map[string]map[string]bool{
		"client": state(true, true, true, true), "lb": state(false, false, true, true), "real": state(false, false, false, false),
	}
	if len(l.Links()) != 6 {
		t.Errorf("%d links: %+v", len(l.Links()), l.Links())
	}
	for _, s := range l.Links() {
		node := s.Node
		if node == "lan" {
			node = s.Interface
		} else if !strings.HasPrefix(s.MAC, "02:00:00:00:00:0") {
			t.Errorf("MAC of %s:%s is %s", s.Node, s.Interface, s.MAC)
		}
		if !reflect.DeepEqual(s.Offloads, want[node]) {
			t.Errorf("offloads of %s:%s: %v, want %v", s.Node, s.Interface, s.Offloads, want[node])
		}
	}
}

// TSO without checksum offload is taken away by the kernel; that must not pass.
// (A Spec that asks for it is refused before.)
func TestImpossibleOffload(t *testing.T) {
	l := up(t, report(false))
	n := l.Node("client")
	if err := n.setOffloads("eth0", topology.Offloads{TSO: true}); err != nil {
		t.Fatal(err)
	}
	state, err := n.readOffloads("eth0")
	if err != nil {
		t.Fatal(err)
	}
	err = n.checkOffloads("eth0", state)
	if err == nil || !strings.Contains(err.Error(), "tcp-segmentation-offload of client:eth0") {
		t.Errorf("tso without tx-checksum: %v", err)
	}
}

func TestInvalidSpecIsRefused(t *testing.T) {
	spec := report(false)
	spec.Nodes = append(spec.Nodes, spec.Nodes[0])
	l, err := Up(deadline(t), spec)
	var problems topology.Problems
	if !errors.As(err, &problems) {
		t.Errorf("two nodes of one name: %v, %v", l, err)
	}
}

func TestRouteMetricsAreReadBack(t *testing.T) {
	spec := report(false)
	spec.Nodes[0].Routes = []topology.Route{
		{
			To:  topology.Destination{Prefix: netip.MustParsePrefix("10.9.0.0/16")},
			Via: netip.MustParseAddr("10.0.0.5"), Dev: "eth0", Src: netip.MustParseAddr("10.0.0.1"), Priority: 7, Table: 1000,
			MTU: 1480, MTULock: true, AdvMSS: 1400, RTOMin: 50 * time.Millisecond, RTT: 20 * time.Millisecond,
			Quickack: true, InitCwnd: 10, InitRwnd: 20, Window: 4096,
		},
		{To: topology.Destination{Prefix: netip.MustParsePrefix("10.0.0.2/32")}, Dev: "eth0", MTU: 1480},
	}
	l := up(t, spec)
	h := l.Node("client").Handle()
	got, err := h.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: 1000}, netlink.RT_FILTER_TABLE)
	if err != nil || len(got) != 1 {
		t.Fatalf("routes: %v, %v", got, err)
	}
	r := got[0]
	index, err := l.Node("client").Index("eth0")
	if err != nil {
		t.Fatal(err)
	}
	is := fmt.Sprintf("to %v via %v dev %d src %v priority %d", r.Dst, r.Gw, r.LinkIndex, r.Src, r.Priority)
	if want := fmt.Sprintf("to 10.9.0.0/16 via 10.0.0.5 dev %d src 10.0.0.1 priority 7", index); is != want {
		t.Errorf("route is %s, want %s", is, want)
	}
	// Package netlink does not read the lock.
	if got, want := metricsOf(t, l.Node("client"), 1000), metrics(spec.Nodes[0].Routes[0]); !slices.Equal(got, want) || len(got) != 9 {
		t.Errorf("metrics are %v, want %v", got, want)
	}
	got, err = h.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: &net.IPNet{IP: net.IPv4(10, 0, 0, 2).To4(), Mask: net.CIDRMask(32, 32)}}, netlink.RT_FILTER_DST)
	if err != nil || len(got) != 1 || got[0].MTU != 1480 || got[0].Scope != netlink.SCOPE_LINK || got[0].Table != unix.RT_TABLE_MAIN {
		t.Errorf("route to the VIP: %+v, %v", got, err)
	}
}

// metricsOf returns the metrics of the only route of a table.
func metricsOf(t *testing.T, n *Node, table uint32) []metric {
	t.Helper()
	req := n.request(unix.RTM_GETROUTE, unix.NLM_F_DUMP)
	req.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{Family: unix.AF_INET}})
	messages, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		attrs, err := nl.ParseRouteAttrAsMap(m[unix.SizeofRtMsg:])
		if err != nil {
			t.Fatal(err)
		}
		if binary.NativeEndian.Uint32(attrs[unix.RTA_TABLE].Value) != table {
			continue
		}
		list, err := nl.ParseRouteAttr(attrs[unix.RTA_METRICS].Value)
		if err != nil {
			t.Fatal(err)
		}
		var ms []metric
		for _, a := range list {
			ms = append(ms, metric{a.Attr.Type, binary.NativeEndian.Uint32(a.Value)})
		}
		return ms
	}
	t.Fatalf("no route in table %d", table)
	return nil
}

func TestSysctls(t *testing.T) {
	l := checkSysctls(t)
	client := l.Node("client")
	if err := client.SetSysctl("net.ipv4.tcp_mtu_probing", "2"); err != nil {
		t.Error(err)
	}
	if got, _ := client.Sysctl("net.ipv4.tcp_mtu_probing"); got != "2" {
		t.Errorf("tcp_mtu_probing is %s after setting it to 2", got)
	}
	var e *SysctlError
	if err := client.SetSysctl("net.ipv4.no_such", "1"); !errors.As(err, &e) || e.Node != "client" || e.Key != "net.ipv4.no_such" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("setting a sysctl that is not there: %v", err)
	}
}

// The host's own settings, which new namespaces copy, change nothing.
func TestSysctlsOfTheHost(t *testing.T) {
	if os.Getenv("PMTULAB_RECORDS") == "" {
		capability.Missing(t, errors.New("changes sysctls of the first namespace: run it in a guest"), "guest")
	}
	for key, value := range map[string]string{
		"net.ipv4.ip_forward":                    "1",
		"net.ipv4.conf.all.rp_filter":            "1",
		"net.ipv4.conf.default.rp_filter":        "2",
		"net.ipv4.conf.all.accept_redirects":     "0",
		"net.ipv4.conf.default.accept_redirects": "0",
		"net.ipv4.conf.default.arp_ignore":       "2",
		"net.ipv4.tcp_wmem":                      "4096 8192 16384",
		"net.ipv6.conf.default.disable_ipv6":     "1",
	} {
		before, err := readSysctl(key)
		if err != nil {
			t.Fatal(err)
		}
		if err := writeSysctl(key, value); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := writeSysctl(key, before); err != nil {
				t.Error(err)
			}
		})
	}
	checkSysctls(t)
}

// checkSysctls brings a lab up in which one node has sysctls of its own, and
// compares all that the lab depends on.
func checkSysctls(t *testing.T) *Lab {
	t.Helper()
	spec := report(false)
	spec.Nodes[0].Sysctls = map[string]string{
		"net.ipv4.tcp_mtu_probing":     "1",
		"net.ipv4.ip_forward":          "1",
		"net/ipv4/conf/eth0/rp_filter": "2",
	}
	l := up(t, spec)
	for _, n := range l.Nodes() {
		want := make(map[string]string)
		for _, s := range baseline() {
			if !s.optional {
				want[s.key] = s.value
			}
		}
		switch n.Name() {
		case "client":
			want["net.ipv4.tcp_mtu_probing"] = "1"
			want["net.ipv4.ip_forward"] = "1"
			want["net.ipv4.conf.eth0.rp_filter"] = "2"
			want["net.ipv4.conf.eth0.forwarding"] = "1"
		case "real":
			want["net.ipv4.conf.all.arp_ignore"] = "1"
			want["net.ipv4.conf.all.arp_announce"] = "2"
		}
		for key, value := range want {
			got, err := n.Sysctl(key)
			if err != nil || strings.Join(strings.Fields(got), " ") != value {
				t.Errorf("%s of %s is %q, want %q (%v)", key, n.Name(), got, value, err)
			}
		}
	}
	return l
}

func TestUpNamesMissingSysctl(t *testing.T) {
	Require(t, Probe(report(false)))
	spec := report(false)
	spec.Nodes[1].Sysctls = map[string]string{"net.ipv4.no_such": "1"}
	before := descriptors(t)
	_, err := Up(deadline(t), spec)
	var e *SysctlError
	if !errors.As(err, &e) || e.Node != "lb" || e.Key != "net.ipv4.no_such" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Up: %v", err)
	}
	if after := descriptors(t); !slices.Equal(before, after) {
		t.Errorf("descriptors after a failed Up: %v, before: %v", after, before)
	}
}

// directRoute is the report's network without tunnel: it needs only IPVS.
func directRoute() topology.Spec {
	s := report(true)
	s.Nodes[1].Services[0].RealServers[0].Forwarding = topology.DirectRoute
	s.Nodes[2].Tunnels = nil
	s.Nodes[2].Loopback = s.Nodes[1].Loopback
	return s
}

// Up with a tunnel and a service must agree with the probes, on every kernel, and
// probing must load nothing.
func TestCapabilitiesAreProbed(t *testing.T) {
	modules := func() string {
		b, err := os.ReadFile("/proc/modules")
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel without modules
			t.Fatal(err)
		}
		var names []string
		for line := range strings.Lines(string(b)) {
			if name, _, _ := strings.Cut(line, " "); name == "ipip" || name == "ip_vs" {
				names = append(names, name)
			}
		}
		return strings.Join(names, " ")
	}
	before := modules()
	l := up(t, report(false))
	n := l.Node("real")
	for kind, want := range map[string]bool{"veth": true, "bridge": true, "no-such-kind": false} {
		if got, err := n.knowsKind(kind); got != want || err != nil {
			t.Errorf("kernel knows link kind %s: %t, %v", kind, got, err)
		}
	}
	ipip, err := n.knowsKind("ipip")
	if err != nil {
		t.Fatal(err)
	}
	h, err := ipvs.Open(n.Do)
	if err == nil {
		h.Close()
	} else if !errors.Is(err, ipvs.ErrNotSupported) {
		t.Fatal(err)
	}
	hasIPVS := err == nil

	for _, c := range []struct {
		capability string
		has        bool
		spec       topology.Spec
	}{
		{"link kind ipip", ipip, func() topology.Spec { s := report(true); s.Nodes[1].Services = nil; return s }()},
		{"IPVS", hasIPVS, directRoute()},
	} {
		l, err := Up(deadline(t), c.spec)
		if err == nil {
			l.Close()
		}
		var missing *MissingError
		switch {
		case c.has && err != nil:
			t.Errorf("%s is there: %v", c.capability, err)
		case !c.has && (!errors.As(err, &missing) || missing.Capability != c.capability || missing.Remedy == ""):
			t.Errorf("%s is missing: %v", c.capability, err)
		}
		if probe := Probe(c.spec); (probe == nil) != c.has || (!c.has && !errors.As(probe, &missing)) {
			t.Errorf("%s is there: %t, but Probe says %v", c.capability, c.has, probe)
		}
		t.Logf("%s: %t (%v)", c.capability, c.has, err)
	}
	probe := Probe(report(true))
	for capability, has := range map[string]bool{"link kind ipip": ipip, "IPVS": hasIPVS} {
		if !has && !strings.Contains(fmt.Sprint(probe), capability) {
			t.Errorf("Probe does not name %s: %v", capability, probe)
		}
	}
	spec := report(false)
	spec.Nodes[0].Sidecar = &topology.Sidecar{}
	for _, c := range Try(Needs(spec)...) {
		switch c.Name {
		case "redirect":
			if c.Found != string(sidecar.Nftables) && c.Found != string(sidecar.IptablesLegacy) || c.Err != nil {
				t.Errorf("redirect: found %q, %v", c.Found, c.Err)
			}
		default:
			if c.Err != nil && (c.Name != "ipip" || ipip) {
				t.Errorf("%s: %v", c.Name, c.Err)
			}
		}
	}
	if after := modules(); after != before {
		t.Errorf("modules after: %q, before: %q", after, before)
	}
}

// The report's network: the request reaches the real server through an IPIP
// tunnel, and the answer comes back past the load balancer.
func TestVirtualServiceGuest(t *testing.T) {
	l := up(t, report(true))
	for _, p := range l.Phases() {
		t.Logf("%-20s %v", p.Name, p.Duration)
	}
	if took := echo(t, l.Node("client"), l.Node("real"), "10.0.0.2:443"); took > 500*time.Millisecond {
		t.Errorf("connecting took %v: the first SYN was lost", took)
	}
	lb := l.Node("lb").Services()
	got, err := lb.Services()
	if err != nil || len(got) != 1 || got[0].String() != "TCP 10.0.0.2:443" || len(got[0].Destinations) != 1 ||
		got[0].Destinations[0].Forwarding != ipvs.Tunnel || got[0].Destinations[0].Weight != 1 {
		t.Errorf("services: %+v, %v", got, err)
	}
	totals, err := lb.Totals()
	if err != nil || totals.Connections != 1 || totals.InPackets < 4 || totals.OutPackets != 0 {
		t.Errorf("totals: %+v, %v", totals, err)
	}
	if got, err := l.Node("real").Sysctl("net.ipv4.conf.ipip0.rp_filter"); err != nil || got != "0" {
		t.Errorf("rp_filter of the tunnel: %s, %v", got, err)
	}
	if l.Node("client").Services() != nil {
		t.Error("the client has an IP Virtual Server")
	}
}

func TestDirectRouteGuest(t *testing.T) {
	l := up(t, directRoute())
	echo(t, l.Node("client"), l.Node("real"), "10.0.0.2:443")
	if totals, err := l.Node("lb").Services().Totals(); err != nil || totals.Connections != 1 {
		t.Errorf("totals: %+v, %v", totals, err)
	}
}

// A tunnel with an address of its own can stand beside one from any to any.
func TestTunnelsGuest(t *testing.T) {
	spec := report(true)
	spec.Nodes[2].Tunnels = []topology.Tunnel{
		{Name: "any", Mode: topology.IPIP, MTU: 1400},
		{
			Name: "one", Mode: topology.IPIP,
			Local: netip.MustParseAddr("10.0.0.6"), Remote: netip.MustParseAddr("10.0.0.5"),
			Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/32")},
		},
	}
	spec.Nodes[2].Sysctls["net.ipv4.conf.one.rp_filter"] = "0"
	l := up(t, spec)
	mtu := make(map[string]int)
	for _, s := range l.Links() {
		mtu[s.Interface] = s.MTU
	}
	if mtu["any"] != 1400 || mtu["one"] != 1480 {
		t.Errorf("MTUs: %v", mtu)
	}
	link, err := l.Node("real").Handle().LinkByName("one")
	if err != nil {
		t.Fatal(err)
	}
	tunnel := link.(*netlink.Iptun)
	if tunnel.Local.String() != "10.0.0.6" || tunnel.Remote.String() != "10.0.0.5" || tunnel.PMtuDisc != 1 {
		t.Errorf("tunnel one: %+v", tunnel)
	}
	echo(t, l.Node("client"), l.Node("real"), "10.0.0.2:443")
}

// The application's connection goes through the sidecar, which makes its own.
func TestSidecar(t *testing.T) {
	spec := report(false)
	spec.Nodes[0].Sidecar = &topology.Sidecar{}
	before := descriptors(t)
	l := up(t, spec)
	client := l.Node("client")
	echo(t, client, l.Node("real"), "10.0.0.6:80")
	err := wait.Until(deadline(t), "the access log", time.Millisecond, func() error {
		if n := len(client.Sidecar().AccessLog()); n != 1 {
			return fmt.Errorf("%d entries", n)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if l.Node("real").Sidecar() != nil {
		t.Error("the real server has a sidecar")
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if after := descriptors(t); !slices.Equal(before, after) {
		t.Errorf("descriptors after: %v, before: %v", after, before)
	}
}
