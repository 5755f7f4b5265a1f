package evidence

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab/record"
)

func TestParseCachedRoute(t *testing.T) {
	got, err := parseCachedRoute(testBytes(t, "route.hex"))
	if err != nil {
		t.Fatal(err)
	}
	want := cachedRoute{cloned: true, destination: testVIP, device: 100, mtu: 1480, expires: 59962}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestRouteText(t *testing.T) {
	for _, c := range []struct {
		route cachedRoute
		want  string
	}{
		{cachedRoute{destination: testVIP, mtu: 1480, expires: 59999}, "10.0.0.2 dev eth0 cache expires 599sec mtu 1480"},
		{
			cachedRoute{destination: testVIP, gateway: netip.MustParseAddr("10.1.0.1"), source: testClient, mtu: 552, locked: true, expires: 7},
			"10.0.0.2 via 10.1.0.1 dev eth0 src 10.0.0.1 cache expires 0sec mtu lock 552",
		},
	} {
		if got := c.route.text("eth0"); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestParseSocket(t *testing.T) {
	local, remote := netip.AddrPortFrom(testClient, 40771), netip.AddrPortFrom(testVIP, 443)
	got, err := parseSocket(testBytes(t, "socket-stalled.hex"))
	if err != nil {
		t.Fatal(err)
	}
	want := record.Socket{
		Local: local, Remote: remote, State: "ESTABLISHED", Timer: record.TimerProbe0, Expires: 210,
		NotSent: 1448, SendMSS: 1428, PMTU: 1480, AdvMSS: 1448, RTO: 210, SegsOut: 6, SegsIn: 4, SendWindow: 65024,
	}
	if got != want {
		t.Errorf("got\n%+v, want\n%+v", got, want)
	}
	if !stalled(got) {
		t.Error("the sample is not recognised as a stall")
	}
	const text = "ESTABLISHED unacked 0 notsent 1448 mss 1428 pmtu 1480 timer probe0 in 210 ms"
	if got := socketText(got); got != text {
		t.Errorf("text %q, want %q", got, text)
	}
}

// struct tcp_info of an old kernel ends early; what it has is read.
func TestParseSocketOfAnOldKernel(t *testing.T) {
	data := testBytes(t, "socket-stalled.hex")
	const info = 116  // where INET_DIAG_INFO begins in the file
	const until = 104 // tcpi_pacing_rate: Linux 3.10 has nothing behind it
	short := append([]byte{}, data[:info+4+until]...)
	short[info] = 4 + until
	short[info+1] = 0
	got, err := parseSocket(short)
	if err != nil {
		t.Fatal(err)
	}
	if got.SendMSS != 1428 || got.PMTU != 1480 || got.NotSent != 0 || got.SegsOut != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestChanged(t *testing.T) {
	a, err := parseSocket(testBytes(t, "socket-stalled.hex"))
	if err != nil {
		t.Fatal(err)
	}
	b := a
	b.Expires = 10
	if changed(a, b) {
		t.Error("a timer that runs on is called a change")
	}
	b.SegsOut++
	if !changed(a, b) {
		t.Error("a segment sent is not called a change")
	}
}

func TestSocketRequestUnmapsAddresses(t *testing.T) {
	mapped := netip.AddrPortFrom(netip.AddrFrom16(testClient.As16()), 40771)
	plain := netip.AddrPortFrom(testClient, 40771)
	remote := netip.AddrPortFrom(testVIP, 443)
	if got, want := socketRequest(mapped, remote), socketRequest(plain, remote); string(got) != string(want) {
		t.Errorf("request\n%x, want\n%x", got, want)
	}
}

func TestShortAnswers(t *testing.T) {
	for name, parse := range map[string]func([]byte) error{
		"route":  func(b []byte) error { _, err := parseCachedRoute(b); return err },
		"socket": func(b []byte) error { _, err := parseSocket(b); return err },
		"error":  answeredError,
	} {
		if err := parse([]byte{1, 2, 3}); !errors.Is(err, unix.EBADMSG) {
			t.Errorf("%s of 3 bytes: error %v, want EBADMSG", name, err)
		}
	}
	if err := answeredError([]byte{0, 0, 0, 0}); err != nil {
		t.Errorf("an acknowledgement: %v", err)
	}
	if err := answeredError([]byte{0xfe, 0xff, 0xff, 0xff}); !errors.Is(err, unix.ENOENT) {
		t.Errorf("error %v, want ENOENT", err)
	}
}

func FuzzAnswers(f *testing.F) {
	for _, name := range []string{"route.hex", "socket-stalled.hex", "socket-quiet.hex"} {
		f.Add(testBytes(f, name))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := parseCachedRoute(data); err == nil {
			if r.expires < 0 || strings.Contains(r.text("eth0"), "expires -") {
				t.Errorf("expired in the past: %+v", r)
			}
		}
		if s, err := parseSocket(data); err == nil && (s.Expires < 0 || s.State == "") {
			t.Errorf("socket %+v", s)
		}
	})
}
