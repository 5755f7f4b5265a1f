package diagnosis

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/pmtulab/pmtulab/lab/record"
)

var (
	client = netip.MustParseAddrPort("10.0.0.1:40000")
	vip    = netip.MustParseAddrPort("10.0.0.2:443")
)

// story writes events by hand, in the order of time.
type story struct{ events []record.Event }

func (s *story) add(at record.Ms, e record.Event) *story {
	e.ID, e.At, e.Node = fmt.Sprintf("E%d", len(s.events)+1), at, "client"
	s.events = append(s.events, e)
	return s
}

func tcp(from, to netip.AddrPort, seq, ack uint32, payload int) *record.Packet {
	return &record.Packet{
		Source: from.Addr(), Destination: to.Addr(), Length: 52 + payload, DF: true, Protocol: 6,
		TCP: &record.TCP{SourcePort: from.Port(), DestinationPort: to.Port(), Seq: seq, Ack: ack, Payload: payload, Flags: "."},
	}
}

func (s *story) sends(at record.Ms, seq uint32, payload int) *story {
	p := tcp(client, vip, seq, 1, payload)
	p.Out = true
	return s.add(at, record.Event{Interface: "eth0", Packet: p})
}

func (s *story) hears(at record.Ms, ack uint32, payload int) *story {
	return s.add(at, record.Event{Interface: "eth0", Packet: tcp(vip, client, 1, ack, payload)})
}

func (s *story) icmp(at record.Ms, from string) *story {
	device := "eth0"
	if from == client.Addr().String() {
		device = "lo"
	}
	return s.add(at, record.Event{Interface: device, Packet: &record.Packet{
		Source: netip.MustParseAddr(from), Destination: client.Addr(), Protocol: 1,
		ICMP: &record.ICMP{Type: 3, Code: 4, MTU: 1480, Quoted: tcp(client, vip, 100, 1, 1448)},
	}})
}

func (s *story) waits(at, expires record.Ms) *story {
	return s.add(at, record.Event{Socket: &record.Socket{
		Local: client, Remote: vip, Timer: record.TimerProbe0, Expires: expires, NotSent: 1448, SendMSS: 1428, PMTU: 1480,
	}})
}

// ended is when the last packet or sample came; what is learned is seen later.
func ended(events []record.Event) record.Ms {
	var last record.Ms
	for _, e := range events {
		if e.Route == nil {
			last = e.At
		}
	}
	return last
}

func (s *story) learns(at record.Ms, mtu int) *story {
	return s.add(at, record.Event{Route: &record.Route{
		Change: record.RouteLearned, Exception: record.Exception{Node: "client", Destination: vip.Addr(), Device: "eth0", MTU: mtu},
	}})
}

func TestClassify(t *testing.T) {
	for name, c := range map[string]struct {
		story  *story
		class  record.Class
		waits  []record.WaitKind
		status int
		reason string
		// counters are those of the load balancer.
		counters map[string]int64
	}{
		"clean": {
			story: new(story).sends(0.2, 100, 1428).hears(1, 1528, 200), class: record.Clean, status: 200,
			reason: "first packet 0.2 ms after the write, 1480 bytes (E1)",
		},
		"request A": {
			story: new(story).sends(0.2, 100, 1448).icmp(0.4, "10.0.0.2").sends(0.5, 100, 1428).sends(0.5, 1528, 20).hears(2, 1548, 200),
			class: record.PMTURetransmit, status: 200, reason: "2 segments retransmitted, first 0.10 ms after the ICMP (E3 E4)",
		},
		"request A, and what it left": {
			story: new(story).sends(0.2, 100, 1448).icmp(0.4, "10.0.0.2").sends(0.5, 100, 1428).sends(0.5, 1528, 20).hears(2, 1548, 200).learns(20, 1480),
			class: record.PMTURetransmit, status: 200, reason: "client has learned mtu 1480 for 10.0.0.2 (E6)",
		},
		"request B": {
			story: new(story).icmp(0.3, "10.0.0.1").waits(1, 207).waits(4, 204).sends(208, 100, 1428).hears(249, 1528, 0).sends(249.1, 1528, 20).hears(251, 1548, 200),
			class: record.PMTUStall, waits: []record.WaitKind{record.WaitProbe0, record.WaitDelayedAck}, status: 200,
			reason: "2 samples of the socket show the probe0 timer, 0 unacked, 1448 bytes not sent, snd_mss 1428, pmtu 1480 (E2 to E3)",
		},
		"request B without an end": {
			story: new(story).icmp(0.3, "10.0.0.1").waits(1, 207), class: record.PMTUStall, waits: []record.WaitKind{record.WaitProbe0},
			reason: "no data packet of this request was seen",
		},
		"rescued": {
			story: new(story).icmp(0.3, "10.0.0.1").waits(1, 207).sends(8, 100, 1428).hears(9, 1548, 200), class: record.Rescued, status: 200,
		},
		"refused, never waited": {
			story: new(story).icmp(0.3, "10.0.0.1").sends(0.9, 100, 1428).hears(9, 1548, 200), class: record.Rescued, status: 200,
		},
		"black hole": {
			story: new(story).sends(0.2, 100, 1448).sends(201, 100, 1448).sends(601, 100, 1448), class: record.BlackHole,
		},
		"black hole behind a load balancer that answers": {
			story: new(story).sends(0.2, 100, 1448).icmp(0.4, "10.0.0.2").sends(0.5, 100, 1428).sends(201, 100, 1428), class: record.BlackHole,
		},
		"sent again, acknowledged, not answered": {
			story: new(story).sends(0.2, 100, 1428).sends(201, 100, 1428).sends(601, 100, 1428).hears(602, 1528, 0), class: record.Unclassified,
		},
		"fragments": {
			story: new(story).add(0.2, record.Event{Packet: &record.Packet{
				Out: true, Source: client.Addr(), Destination: vip.Addr(), Length: 1500, Fragment: true, Protocol: 6,
			}}).hears(2, 1528, 200), class: record.Fragmented, status: 200, reason: "1 IP fragment on the wire (E1)",
		},
		"fragments of another node": {
			story: new(story).sends(0.2, 100, 1448).hears(1, 1548, 200), class: record.Fragmented, status: 200,
			counters: map[string]int64{"Ip.FragCreates": 6}, reason: "lb cut packets into 6 IP fragments meanwhile (Ip.FragCreates)",
		},
		"tiny segments": {
			story: new(story).sends(0.2, 100, 36).sends(0.3, 136, 36).sends(0.4, 172, 36).hears(2, 1548, 200), class: record.TinySegments, status: 200,
		},
		"nothing seen": {story: new(story), class: record.Unclassified},
		"another connection's ICMP": {
			story: new(story).sends(0.2, 100, 1428).add(0.3, record.Event{Packet: &record.Packet{
				Source: vip.Addr(), Destination: client.Addr(), Protocol: 1,
				ICMP: &record.ICMP{Type: 3, Code: 4, MTU: 1480, Quoted: tcp(netip.MustParseAddrPort("10.0.0.1:1"), vip, 1, 1, 1448)},
			}}).hears(2, 1528, 200),
			class: record.Clean, status: 200,
		},
	} {
		t.Run(name, func(t *testing.T) {
			request := record.Request{
				Name: "X", Bytes: 1448, Status: c.status, Counters: map[string]map[string]int64{"lb": c.counters},
				Connection: record.Connection{Name: "X", App: record.Leg{Local: client, Remote: vip}},
			}
			if c.status != 0 {
				request.Ended = ended(c.story.events) + 0.1
			}
			d := Classify(Case{Request: request, Client: "client", Events: c.story.events})
			if d.Class != c.class {
				t.Errorf("class %s, want %s; %v", d.Class, c.class, d.Reasons)
			}
			if !strings.Contains(strings.Join(d.Reasons, "\n"), c.reason) {
				t.Errorf("no reason %q among\n%s", c.reason, strings.Join(d.Reasons, "\n"))
			}
			var waits []record.WaitKind
			if d.Stall != nil {
				for _, w := range d.Stall.Waits {
					waits = append(waits, w.Kind)
				}
			}
			if fmt.Sprint(waits) != fmt.Sprint(c.waits) {
				t.Errorf("waits %v, want %v", waits, c.waits)
			}
		})
	}
}

func TestStallIsMeasuredFromTheWrite(t *testing.T) {
	s := new(story).icmp(10.3, "10.0.0.1").waits(11, 230).waits(15, 203).waits(20, 198).sends(218, 100, 1428).hears(259, 1528, 0).sends(259.1, 1528, 20).hears(261, 1548, 200)
	d := Classify(Case{Client: "client", Events: s.events, Request: record.Request{
		Bytes: 1448, Wrote: 10, Ended: 262, Status: 200, Connection: record.Connection{App: record.Leg{Local: client, Remote: vip}},
	}})
	if d.Stall == nil {
		t.Fatal("no stall")
	}
	if d.Stall.Duration != 208 || d.Stall.Predicted != 218 || d.Stall.Waits[1].Ms != 41 {
		t.Errorf("%+v", d.Stall)
	}
}
