package watch

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pmtulab/pmtulab/lab/evidence"
	"github.com/pmtulab/pmtulab/lab/record"
)

// scene is a machine as a test sets it.
type scene struct {
	sockets    []record.Socket
	exceptions []record.Exception
	counters   map[string]int64
}

func (s *scene) Glimpse(each func(evidence.Glimpse)) error {
	for _, q := range s.sockets {
		g := evidence.Glimpse{Local: q.Local, Remote: q.Remote, Timer: q.Timer, Queue: q.NotSent + 100*q.Unacked}
		if q.Timer == record.TimerRetransmit {
			g.Backoff = q.Probes
		}
		each(g)
	}
	return nil
}

func (s *scene) Sample(local, remote netip.AddrPort) (record.Socket, error) {
	for _, q := range s.sockets {
		if q.Local == local && q.Remote == remote {
			return q, nil
		}
	}
	return record.Socket{}, evidence.ErrNoSocket
}

func (s *scene) Exceptions() ([]record.Exception, error) { return s.exceptions, nil }
func (s *scene) Counters() (map[string]int64, error)     { return s.counters, nil }
func (s *scene) set(sockets ...record.Socket)            { s.sockets = sockets }
func (s *scene) count(received, sent, refused int64)     { s.counters = counters(received, sent, refused) }
func (s *scene) learn(exceptions ...record.Exception)    { s.exceptions = exceptions }
func counters(received, sent, refused int64) map[string]int64 {
	return map[string]int64{"Icmp.InDestUnreachs": received, "Icmp.OutDestUnreachs": sent, "Ip.FragFails": refused}
}

var (
	vip   = netip.MustParseAddrPort("10.0.0.2:443")
	local = netip.MustParseAddrPort("10.0.0.1:1000")
)

// socket is one at rest; port tells it from others.
func socket(port uint16, change func(*record.Socket)) record.Socket {
	q := record.Socket{
		Local: netip.AddrPortFrom(local.Addr(), port), Remote: vip, State: "ESTABLISHED", SendMSS: 1448, PMTU: 1500, SendWindow: 65024,
	}
	if change != nil {
		change(&q)
	}
	return q
}

func stalled(q *record.Socket) {
	q.Timer, q.NotSent, q.SendMSS, q.PMTU = record.TimerProbe0, 1448, 1428, 1480
}

// told is what is told, in short.
func told(found []record.Sighting) []string {
	var out []string
	for _, s := range found {
		text := string(s.Kind)
		if l, _ := s.Endpoints(); l.IsValid() {
			text += " " + l.String()
		}
		if s.Exception != nil {
			text += " " + s.Exception.Destination.String()
		}
		if s.Ended {
			text += " over"
		}
		out = append(out, text)
	}
	return out
}

func TestLook(t *testing.T) {
	exception := record.Exception{Destination: vip.Addr(), Device: "eth0", MTU: 1480, ExpiresS: 599}
	m := &scene{counters: counters(5, 5, 5)}
	w := New(m)
	now := time.Unix(1000, 0)
	look := func(name string, after time.Duration, want ...string) []record.Sighting {
		t.Helper()
		now = now.Add(after)
		found, err := w.Look(now)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, told(found)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		return found
	}
	m.set(socket(1000, nil), socket(1001, nil))
	look("nothing, whatever was counted before", 0)

	m.learn(exception)
	m.count(6, 5, 5)
	found := look("an exception, and who does not go by it", time.Second,
		"exception 10.0.0.2", "stale-route 10.0.0.1:1000", "stale-route 10.0.0.1:1001", "icmp")
	if s := found[0]; s.Stale != 2 {
		t.Errorf("%d stale connections, want 2", s.Stale)
	}

	m.set(socket(1000, nil), socket(1001, stalled))
	m.count(7, 6, 6)
	look("a stall, at once", 50*time.Millisecond, "stall 10.0.0.1:1001")
	look("the same stall", 50*time.Millisecond)
	m.set(socket(1000, nil), socket(1001, func(q *record.Socket) { q.SendMSS, q.PMTU = 1428, 1480 }))
	found = look("its end", 50*time.Millisecond, "stall 10.0.0.1:1001 over")
	if d := found[0].Duration; d != 50 {
		t.Errorf("it was seen for %v ms, want 50", d)
	}
	found = look("what is slow, later", time.Second, "stale-route 10.0.0.1:1001 over", "icmp")
	if c := *found[1].ICMP; c != (record.ICMPCount{Received: 1, Sent: 1, Refused: 1, SelfMade: 1}) {
		t.Errorf("%+v", c)
	}

	m.set(
		socket(1000, func(q *record.Socket) { q.Timer, q.NotSent, q.SendWindow = record.TimerProbe0, 5000, 0 }),
		socket(1001, func(q *record.Socket) { q.Timer, q.Unacked, q.Probes = record.TimerRetransmit, 3, 2 }),
		socket(1002, func(q *record.Socket) { q.Timer, q.Unacked = record.TimerRetransmit, 3 }), // in flight, as ever
	)
	look("look-alikes have names of their own", 50*time.Millisecond, "zero-window 10.0.0.1:1000", "retransmission 10.0.0.1:1001")
	m.set()
	m.learn()
	look("all is over", 2*time.Second, "zero-window 10.0.0.1:1000 over", "retransmission 10.0.0.1:1001 over",
		"exception 10.0.0.2 over", "stale-route 10.0.0.1:1000 over")
}

func TestCheckInterval(t *testing.T) {
	for d, ok := range map[time.Duration]bool{time.Millisecond: false, 5 * time.Millisecond: true, 200 * time.Millisecond: true, time.Second: false} {
		if err := CheckInterval(d); (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "200 ms") {
			t.Errorf("%v: %v", d, err)
		}
	}
}
