//go:build linux

package lab

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/topology"
)

func TestSysctlOrder(t *testing.T) {
	general, byInterface := splitSysctls(baseline(), map[string]string{
		"net/ipv4/ip_forward":               "1",
		"net.ipv4.conf.eth0.rp_filter":      "2",
		"net/ipv4/conf/eth0.7/rp_filter":    "1",
		"net.ipv4.conf.all.rp_filter":       "1",
		"net.ipv4.neigh.eth1.gc_stale_time": "5",
		"net.ipv4.tcp_syn_retries":          "3",
	})
	at := func(key string) int {
		i := slices.IndexFunc(general, func(s sysctl) bool { return pathOf(s.key) == pathOf(key) })
		if i < 0 {
			t.Errorf("%s is missing", key)
		}
		return i
	}
	// Switching forwarding sets accept_redirects of all, which the baseline
	// sets after it; default follows all.
	if at("net.ipv4.ip_forward") != 0 {
		t.Error("net.ipv4.ip_forward is not first")
	}
	if at("net.ipv4.conf.all.accept_redirects") > at("net.ipv4.conf.default.accept_redirects") {
		t.Error("conf.default before conf.all")
	}
	for key, want := range map[string]string{
		"net.ipv4.ip_forward":                  "1",
		"net.ipv4.conf.all.rp_filter":          "1",
		"net.ipv4.conf.default.rp_filter":      "0",
		"net.ipv4.conf.default.send_redirects": "0",
		"net.ipv4.tcp_syn_retries":             "3",
	} {
		if got := general[at(key)].value; got != want {
			t.Errorf("%s = %s, want %s", key, got, want)
		}
	}
	seen := make(map[string]bool)
	for _, s := range general {
		if seen[pathOf(s.key)] {
			t.Errorf("%s is written twice", s.key)
		}
		seen[pathOf(s.key)] = true
		if strings.Contains(s.key, "eth") {
			t.Errorf("%s is written before its interface exists", s.key)
		}
	}
	for _, iface := range []string{"eth0", "eth0.7", "eth1"} {
		if len(byInterface[iface]) != 1 {
			t.Errorf("sysctls of %s: %v", iface, byInterface[iface])
		}
	}
}

// Only what a new namespace has not is written; after a change of forwarding,
// which changes others, everything is.
func TestFreshSysctls(t *testing.T) {
	inherited := fresh{
		"net/ipv4/ip_forward": "0", "net/ipv4/conf/all/rp_filter": "0", "net/ipv4/conf/all/accept_redirects": "1",
		"net/ipv4/tcp_wmem": "4096 16384 4194304", "net/bridge/absent": "", "net/ipv4/absent": "",
	}
	spec := map[string]string{"net.ipv4.ip_forward": "0"}
	list, _ := splitSysctls([]sysctl{
		required("net.ipv4.conf.all.rp_filter", "0"), required("net.ipv4.conf.all.accept_redirects", "0"),
		required("net.ipv4.tcp_wmem", "4096\t16384 4194304"), required("net.ipv4.unknown", "1"),
		optional("net.bridge.absent", "0"), required("net.ipv4.absent", "0"),
	}, spec)
	keys := func(list []sysctl) (out []string) {
		for _, s := range list {
			out = append(out, s.key)
		}
		return out
	}
	want := []string{"net.ipv4.conf.all.accept_redirects", "net.ipv4.absent", "net.ipv4.unknown"}
	if got := keys(inherited.changes(list)); !slices.Equal(got, want) {
		t.Errorf("written are %v, want %v", got, want)
	}
	list[0].value = "1"
	if got := keys(inherited.changes(list)); !slices.Equal(got, keys(list)) {
		t.Errorf("with forwarding, written are %v, want all", got)
	}
}

func TestSysctlStaysInNamespace(t *testing.T) {
	for _, key := range []string{"kernel.modprobe", "vm/swappiness", "net/../kernel/modprobe", "net/ipv4/../../kernel/x", "../sys/net.x", ""} {
		if err := writeSysctl(key, "x"); err == nil || errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("key %q was not refused: %v", key, err)
		}
	}
}

func TestMetrics(t *testing.T) {
	for _, c := range []struct {
		name  string
		route topology.Route
		want  []metric
	}{
		{"none", topology.Route{}, nil},
		{"mtu", topology.Route{MTU: 1480}, []metric{{unix.RTAX_MTU, 1480}}},
		{"locked mtu", topology.Route{MTU: 1480, MTULock: true}, []metric{{unix.RTAX_LOCK, 1 << unix.RTAX_MTU}, {unix.RTAX_MTU, 1480}}},
		{
			"locked mtu and rto_min share one lock",
			topology.Route{MTU: 1480, MTULock: true, RTOMin: 50 * time.Millisecond},
			[]metric{
				{unix.RTAX_LOCK, 1<<unix.RTAX_MTU | 1<<unix.RTAX_RTO_MIN},
				{unix.RTAX_MTU, 1480},
				{unix.RTAX_RTO_MIN, 50},
			},
		},
		{"a part of a millisecond is not none", topology.Route{RTOMin: time.Microsecond}, []metric{
			{unix.RTAX_LOCK, 1 << unix.RTAX_RTO_MIN}, {unix.RTAX_RTO_MIN, 1},
		}},
		{
			"all others",
			topology.Route{AdvMSS: 1400, RTT: 20 * time.Millisecond, Quickack: true, InitCwnd: 10, InitRwnd: 20, Window: 4096},
			[]metric{
				{unix.RTAX_WINDOW, 4096},
				{unix.RTAX_RTT, 160},
				{unix.RTAX_ADVMSS, 1400},
				{unix.RTAX_INITCWND, 10},
				{unix.RTAX_INITRWND, 20},
				{unix.RTAX_QUICKACK, 1},
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := metrics(c.route); !slices.Equal(got, c.want) {
				t.Errorf("metrics = %v, want %v", got, c.want)
			}
		})
	}
}

func TestPortNames(t *testing.T) {
	for _, c := range []struct{ nodes, want []string }{
		{[]string{"client", "lb"}, []string{"client", "lb"}},
		{[]string{"lb", "lb", "lb-2"}, []string{"lb", "lb-3", "lb-2"}},
		{[]string{"lo", "br0", "all", "default"}, []string{"lo-2", "br0-2", "all-2", "default-2"}},
		{[]string{"abcdefghijklmno", "abcdefghijklmno"}, []string{"abcdefghijklmno", "abcdefghijklm-2"}},
	} {
		var s topology.Segment
		for _, n := range c.nodes {
			s.Ports = append(s.Ports, topology.End{Node: n})
		}
		if got := portNames(s); !slices.Equal(got, c.want) {
			t.Errorf("ports of %v are %v, want %v", c.nodes, got, c.want)
		}
	}
}

func TestAddressesAreLiteral(t *testing.T) {
	for address, ok := range map[string]bool{
		"10.0.0.1:80": true, ":80": true, "[::1]:80": true,
		"localhost:80": false, "10.0.0.1": false, "example.net:https": false,
	} {
		if err := literal(address); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestUpHeedsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("changed my mind")
	cancel(why)
	if _, err := Up(ctx, report(false)); !errors.Is(err, why) {
		t.Errorf("Up with a cancelled context: %v", err)
	}
}
