package report

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/pmtulab/pmtulab/lab/record"
)

func TestSighting(t *testing.T) {
	socket := record.Socket{
		Local: netip.MustParseAddrPort("10.0.0.1:43395"), Remote: netip.MustParseAddrPort("10.0.0.2:443"), Timer: record.TimerProbe0,
		Expires: 190, Unacked: 3, NotSent: 1448, SendMSS: 1428, PMTU: 1480, SendWindow: 65024, Retransmits: 4, Probes: 2,
	}
	exception := record.Exception{Destination: netip.MustParseAddr("10.0.0.2"), Device: "eth0", MTU: 1480, ExpiresS: 599}
	var out bytes.Buffer
	for i, s := range []record.Sighting{
		{Kind: record.SightingException, Exception: &exception, Stale: 2},
		{Kind: record.SightingException, Exception: &exception, Ended: true},
		{Kind: record.SightingStaleRoute, Socket: &socket},
		{Kind: record.SightingStall, Socket: &socket},
		{Kind: record.SightingStall, Socket: &socket, Ended: true, Duration: 180},
		{Kind: record.SightingZeroWindow, Socket: &socket},
		{Kind: record.SightingRetransmission, Socket: &socket},
		{Kind: record.SightingICMP, ICMP: &record.ICMPCount{Received: 2, Sent: 1, Refused: 1, SelfMade: 1}},
	} {
		s.Time = time.Date(2026, 1, 2, 3, 4, 5, i*1e6, time.UTC)
		for _, style := range []Style{{}, {Color: true}} {
			if err := Sighting(&out, s, style); err != nil {
				t.Fatal(err)
			}
		}
	}
	golden(t, "sightings.txt", out.Bytes())
}
