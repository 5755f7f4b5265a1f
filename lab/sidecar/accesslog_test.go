//go:build linux

package sidecar

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

// entries is one entry of each kind.
func entries() []AccessLogEntry {
	base := AccessLogEntry{
		Connection: Connection{
			ID:                  1,
			DownstreamRemote:    netip.MustParseAddrPort("10.0.1.10:50000"),
			DownstreamLocal:     netip.MustParseAddrPort("127.0.0.1:15001"),
			OriginalDestination: netip.MustParseAddrPort("10.0.9.100:443"),
			UpstreamLocal:       netip.MustParseAddrPort("10.0.1.10:50002"),
			UpstreamRemote:      netip.MustParseAddrPort("10.0.9.100:443"),
			Accepted:            1_000_000_000,
			Connected:           1_001_000_000,
			Closed:              1_278_900_000,
		},
		Start:         time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.FixedZone("", 3600)),
		BytesReceived: 2096, BytesSent: 1021,
		Cluster: passthroughCluster,
	}
	reset := base
	reset.Flags = UpstreamConnectionTermination
	refused := base
	refused.UpstreamLocal, refused.UpstreamRemote = netip.AddrPort{}, netip.AddrPort{}
	refused.Connected, refused.BytesReceived, refused.BytesSent = 0, 0, 0
	refused.Flags, refused.TransportFailure = UpstreamConnectFailure, "delayed_connect_error:_Connection_refused"
	loop := refused
	loop.OriginalDestination = netip.AddrPort{}
	loop.Flags, loop.TransportFailure, loop.Cluster = NoHealthyUpstream, "", blackHoleCluster
	return []AccessLogEntry{base, reset, refused, loop}
}

func TestAccessLogLine(t *testing.T) {
	var got bytes.Buffer
	for _, e := range entries() {
		got.WriteString(e.String() + "\n")
	}
	const golden = "testdata/access.log"
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("access log is\n%swant\n%s", &got, want)
	}
}

// What the sidecar's process says is what its parent hears.
func TestMessagesSurviveThePipe(t *testing.T) {
	e := entries()[2]
	said := []message{
		{Listening: true},
		{Failed: &failure{PortTaken: true, Text: "listen"}},
		{Connected: &e.Connection},
		{Closed: &e},
	}
	var pipe bytes.Buffer
	m := newMessenger(&pipe)
	for _, msg := range said {
		m.send(msg)
	}
	if n := strings.Count(pipe.String(), "\n"); n != len(said) {
		t.Errorf("%d lines for %d messages", n, len(said))
	}
	dec := json.NewDecoder(&pipe)
	for _, want := range said {
		var heard message
		if err := dec.Decode(&heard); err != nil {
			t.Fatal(err)
		}
		if want.Closed != nil { // the zone of a time.Time has no value of its own
			heard.Closed.Start = heard.Closed.Start.In(want.Closed.Start.Location())
		}
		if !reflect.DeepEqual(heard, want) {
			t.Errorf("heard %+v, want %+v", heard, want)
		}
	}
}

func TestCountersHaveNamesOfTheirOwn(t *testing.T) {
	var c counters
	for i := range counterCount {
		c.add(i, int(i)+1)
	}
	s := c.stats()
	if len(s) != int(counterCount) {
		t.Fatalf("%d names for %d counters:\n%s", len(s), counterCount, s)
	}
	for i := range counterCount {
		if s[i.name()] != uint64(i)+1 || !strings.Contains(s.String(), i.name()+": ") {
			t.Errorf("counter %d, %q, is %d", i, i.name(), s[i.name()])
		}
	}
}

func TestRuleset(t *testing.T) {
	r := redirect{port: 15006, uid: 1338}
	got := r.iptablesInstall() + iptablesRemove()
	const golden = "testdata/iptables.rules"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("rules are\n%swant\n%s", got, want)
	}
}

func TestMissingProgramIsNamed(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	path, err := findRestore()
	if err != nil && !strings.Contains(err.Error(), "install the Debian package iptables") {
		t.Errorf("error without a remedy: %v", err)
	}
	if err == nil && !strings.HasSuffix(path, "sbin/iptables-legacy-restore") {
		t.Errorf("found %s, which is not in a system directory", path)
	}
}

func TestConfigIsChecked(t *testing.T) {
	bad := Config{UID: -1, ConnectTimeout: -1, DrainTimeout: -1}
	_, err := Start(t.Context(), bad, Namespace{})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"uid -1", "connect timeout -1ns", "drain timeout -1ns"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q: %v", want, err)
		}
	}
}

func FuzzSockaddrIn(f *testing.F) {
	f.Add([]byte{2, 0, 0x01, 0xbb, 10, 0, 9, 100, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add(make([]byte, 16))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != 16 {
			return
		}
		ap, err := parseSockaddrIn([16]byte(b))
		if inet := b[0] == 2 && b[1] == 0; inet != (err == nil) {
			t.Fatalf("% x: %v", b, err)
		}
		if err == nil && (!ap.Addr().Is4() || ap.Port() != uint16(b[2])<<8|uint16(b[3])) {
			t.Fatalf("% x: %s", b, ap)
		}
	})
}

// FuzzMessages: whatever the other process says, its parent goes on.
func FuzzMessages(f *testing.F) {
	f.Add([]byte(`{"listening":true}{"closed":{"id":1}}`))
	f.Add([]byte(`{"connected":{"downstream_remote":"10.0.0.1:1"}}`))
	f.Fuzz(func(_ *testing.T, b []byte) {
		p := &Process{
			ready:   make(chan message, 1),
			changed: make(chan struct{}),
			byApp:   make(map[netip.AddrPort]*AccessLogEntry),
		}
		for dec := json.NewDecoder(bytes.NewReader(b)); ; {
			var m message
			if dec.Decode(&m) != nil {
				break
			}
			p.take(m)
		}
		for _, e := range p.AccessLog() {
			_ = e.String()
		}
	})
}
