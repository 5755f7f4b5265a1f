package record

import (
	"net/netip"
	"testing"
	"time"
)

func TestMs(t *testing.T) {
	for d, want := range map[time.Duration]Ms{
		0: 0, 207_756 * time.Microsecond: 207.756, 1499 * time.Nanosecond: 0.001, 1500 * time.Nanosecond: 0.002, -3 * time.Millisecond: -3,
	} {
		got := Millis(d)
		if got != want {
			t.Errorf("Millis(%v) = %v, want %v", d, got, want)
		}
		if back := got.Duration(); (back - d).Abs() > time.Microsecond/2 {
			t.Errorf("%v comes back as %v", d, back)
		}
	}
}

// Every verdict has an exit code of its own.
func TestExitCodes(t *testing.T) {
	want := map[Verdict]int{Pass: 0, Fail: 1, Unsupported: 3, Error: 4, Inconclusive: 5, "": 4}
	for v, code := range want {
		if got := v.ExitCode(); got != code {
			t.Errorf("%q ends with %d, want %d", v, got, code)
		}
	}
}

// The order in which the verdicts of several runs are judged.
func TestWorse(t *testing.T) {
	order := []Verdict{Pass, Inconclusive, Fail, Unsupported, Error}
	for i, v := range order {
		for j, other := range order {
			if got := v.Worse(other); got != (i > j) {
				t.Errorf("%s is worse than %s: %t", v, other, got)
			}
		}
	}
}

func TestWire(t *testing.T) {
	app := Leg{Local: netip.MustParseAddrPort("10.0.0.1:1")}
	up := Leg{Local: netip.MustParseAddrPort("10.0.0.1:2")}
	if got := (Connection{App: app}).Wire(); got != app {
		t.Errorf("without a sidecar the wire leg is %v", got)
	}
	if got := (Connection{App: app, Upstream: &up}).Wire(); got != up {
		t.Errorf("with a sidecar the wire leg is %v", got)
	}
}

func TestPacket(t *testing.T) {
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	tcp := &Packet{Source: a, Destination: b, TCP: &TCP{SourcePort: 1, DestinationPort: 443}}
	if src, dst, ok := tcp.Endpoints(); !ok || src.String() != "10.0.0.1:1" || dst.String() != "10.0.0.2:443" {
		t.Errorf("endpoints %v, %v, %v", src, dst, ok)
	}
	for name, test := range map[string]struct {
		packet       *Packet
		needed, self bool
	}{
		"none":             {nil, false, false},
		"TCP":              {tcp, false, false},
		"frag-needed":      {&Packet{Source: b, Destination: a, ICMP: &ICMP{Type: 3, Code: 4}}, true, false},
		"to itself":        {&Packet{Source: a, Destination: a, ICMP: &ICMP{Type: 3, Code: 4}}, true, true},
		"port unreachable": {&Packet{Source: b, Destination: a, ICMP: &ICMP{Type: 3, Code: 3}}, false, false},
	} {
		if got := test.packet.FragNeeded(); got != test.needed {
			t.Errorf("%s: frag-needed %v", name, got)
		}
		if got := test.packet.SelfAddressed(); got != test.self {
			t.Errorf("%s: self-addressed %v", name, got)
		}
		if _, _, ok := test.packet.Endpoints(); ok != (name == "TCP") {
			t.Errorf("%s: has endpoints: %v", name, ok)
		}
	}
}

func TestTimerNames(t *testing.T) {
	for timer, want := range map[Timer]string{
		TimerNone: "none", TimerRetransmit: "retransmit", TimerKeepalive: "keepalive", TimerTimeWait: "time-wait", TimerProbe0: "probe0", 9: "unknown",
	} {
		if got := timer.String(); got != want {
			t.Errorf("timer %d is %q, want %q", timer, got, want)
		}
	}
}

func TestClasses(t *testing.T) {
	seen := map[Class]bool{}
	for _, c := range Classes() {
		if c == "" || seen[c] {
			t.Errorf("class %q is empty or there twice", c)
		}
		seen[c] = true
	}
	for _, c := range []Class{Clean, PMTURetransmit, PMTUStall, BlackHole} {
		if !seen[c] {
			t.Errorf("class %q is missing", c)
		}
	}
}
