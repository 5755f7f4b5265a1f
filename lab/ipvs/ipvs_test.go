//go:build linux

package ipvs

import (
	_ "embed"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"
)

//go:embed testdata/ip_vs_stats_percpu
var percpu []byte

func TestTotals(t *testing.T) {
	got, err := ParseTotals(percpu)
	// The line of sums ("~") still shows nothing: it lags.
	want := Totals{Connections: 0x1 + 0x10, InPackets: 0x6 + 0x20, InBytes: 0x146 + 0x30}
	if err != nil || got != want {
		t.Errorf("totals: %+v, %v; want %+v", got, err, want)
	}
	for _, bad := range []string{"", "CPU Conns\n", "  ~ 1 2 3 4 5\n", "  0 1 2 3 4 xyz\n"} {
		if got, err := ParseTotals([]byte(bad)); err == nil {
			t.Errorf("totals of %q: %+v", bad, got)
		}
	}
}

func TestRefusedBeforeTheKernel(t *testing.T) {
	vip := netip.MustParseAddr("10.0.0.2")
	for _, c := range []struct {
		want string
		do   func() error
	}{
		{"is not IPv4", func() error { _, err := serviceAttr(Service{Address: netip.IPv6Loopback()}); return err }},
		{"whole number of seconds", func() error { _, err := serviceAttr(Service{Address: vip, Persistence: time.Millisecond}); return err }},
		{"whole number of seconds", func() error { _, err := serviceAttr(Service{Address: vip, Persistence: -time.Second}); return err }},
		{"is not IPv4", func() error { _, err := destinationAttr(Destination{}); return err }},
		{"weight", func() error {
			_, err := destinationAttr(Destination{Address: vip, Weight: math.MaxUint16 + 1})
			return err
		}},
		{"weight", func() error { _, err := destinationAttr(Destination{Address: vip, Weight: -1}); return err }},
	} {
		if err := c.do(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v does not say %q", err, c.want)
		}
	}
}

// What is sent to the kernel can be read back by the code for its answers.
func TestWireFormat(t *testing.T) {
	s := Service{
		Protocol: UDP, Address: netip.MustParseAddr("10.0.0.2"), Port: 53,
		Scheduler: "wrr", Persistence: 300 * time.Second,
	}
	attr, err := serviceAttr(s)
	if err != nil {
		t.Fatal(err)
	}
	got, ok, err := parseService(attr.Serialize())
	if err != nil || !ok || got.String() != "UDP 10.0.0.2:53" || got.Scheduler != s.Scheduler || got.Persistence != s.Persistence {
		t.Errorf("service: %+v, %t, %v", got, ok, err)
	}
	d := Destination{Address: netip.MustParseAddr("10.0.0.6"), Port: 53, Forwarding: Tunnel, Weight: 65535}
	if attr, err = destinationAttr(d); err != nil {
		t.Fatal(err)
	}
	if back, err := parseDestination(attr.Serialize()); err != nil || back != d {
		t.Errorf("destination: %+v, %v", back, err)
	}
}

func FuzzAnswers(f *testing.F) {
	attr, err := serviceAttr(Service{Protocol: TCP, Address: netip.MustParseAddr("10.0.0.2"), Port: 443, Scheduler: "rr"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(attr.Serialize())
	if attr, err = destinationAttr(Destination{Address: netip.MustParseAddr("10.0.0.6")}); err != nil {
		f.Fatal(err)
	}
	f.Add(attr.Serialize())
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _, _ = parseService(data)
		_, _ = parseDestination(data)
	})
}

func FuzzTotals(f *testing.F) {
	f.Add(percpu)
	f.Fuzz(func(t *testing.T, data []byte) { _, _ = ParseTotals(data) })
}
