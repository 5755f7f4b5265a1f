//go:build linux && kernel

package evidence_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pmtulab/pmtulab/lab/evidence"
	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/wait"
)

// A client learns the path MTU from a router's ICMP, and every source of
// evidence tells of it.
func TestObserverSeesFragNeeded(t *testing.T) {
	n := newNetwork(t)
	origin := time.Now()
	o, err := evidence.Start(t.Context(), evidence.Config{Nodes: []evidence.Node{n.client, n.router, n.server}, Origin: origin})
	must(t, err)
	client, server := n.connect(t)
	local, remote := endpoints(client)
	o.Watch(n.client, "A", record.AppLeg, local, remote)
	before, err := o.Snapshot()
	must(t, err)

	o.Mark("write")
	wrote := record.Millis(time.Since(origin))
	must(t, exchange(client, server, 1448))
	done := record.Millis(time.Since(origin))

	after, err := o.Snapshot()
	must(t, err)
	o.Unwatch(local, remote)
	e, err := o.Stop()
	must(t, err)
	t.Logf("figures: %+v", e.Figures)
	for _, event := range e.Events {
		t.Logf("%-4s %8.3f %-7s %-5s %s", event.ID, event.At, event.Node, event.Interface, event.Text)
	}

	t.Run("counters", func(t *testing.T) {
		delta := evidence.Delta(before, after)
		for _, want := range []struct {
			node, name string
			value      int64
		}{
			{"router", "Icmp.OutDestUnreachs", 1},
			{"router", "IcmpMsg.OutType3", 1},
			{"router", "Ip.FragFails", 1},
			{"client", "Icmp.InDestUnreachs", 1},
			{"client", "Tcp.RetransSegs", 2}, // 1448 bytes as 1348 and 100
			{"client", "Ip.FragFails", 0},
			{"server", "Icmp.InDestUnreachs", 0},
		} {
			if got := delta[want.node][want.name]; got != want.value {
				t.Errorf("%s of %s moved by %d, want %d", want.name, want.node, got, want.value)
			}
		}
	})
	t.Run("exception", func(t *testing.T) {
		if len(e.Exceptions) != 1 {
			t.Fatalf("%d exceptions, want one: %+v", len(e.Exceptions), e.Exceptions)
		}
		got := e.Exceptions[0]
		if got.ExpiresS < 590 || got.ExpiresS > 600 {
			t.Errorf("expires in %d s, want just under 600", got.ExpiresS)
		}
		want := record.Exception{
			Node: "client", Destination: serverAddress, Gateway: routerNear, Device: "eth0", MTU: 1400, ExpiresS: got.ExpiresS,
			Text: fmt.Sprintf("10.2.0.1 via 10.1.0.2 dev eth0 cache expires %dsec mtu 1400", got.ExpiresS),
		}
		if got != want {
			t.Errorf("exception %+v, want %+v", got, want)
		}
	})
	t.Run("ICMP", func(t *testing.T) {
		var seen []record.Event
		for _, event := range e.Events {
			if event.Node == "client" && event.Packet.FragNeeded() {
				seen = append(seen, event)
			}
		}
		if len(seen) != 1 {
			t.Fatalf("the client saw %d frag-needed ICMPs, want 1", len(seen))
		}
		p := seen[0].Packet
		if p.Source != routerNear || p.Destination != clientAddress || p.Out || p.ICMP.MTU != 1400 || seen[0].Interface != "eth0" {
			t.Errorf("ICMP is %+v on %s, mtu %d", p, seen[0].Interface, p.ICMP.MTU)
		}
		from, to, ok := p.ICMP.Quoted.Endpoints()
		if !ok || from != local || to != remote || p.ICMP.Quoted.Length != 1500 || !p.ICMP.Quoted.DF || p.ICMP.Quoted.TCP.Payload != 1448 {
			t.Errorf("the ICMP quotes %+v, want the segment of 1448 bytes", p.ICMP.Quoted)
		}
		if at := seen[0].At; at < wrote || at > done {
			t.Errorf("the ICMP came at %v, want between write %v and arrival %v", at, wrote, done)
		}
	})
	t.Run("segments", func(t *testing.T) {
		var out, in, far int
		for _, event := range e.Events {
			p := event.Packet
			if p == nil || p.TCP == nil || p.TCP.Payload == 0 {
				continue
			}
			switch {
			case event.Node == "client" && p.Out:
				out += p.TCP.Payload
			case event.Node == "router" && event.Interface == "near" && !p.Out:
				in += p.TCP.Payload
			case event.Node == "server" && !p.Out:
				far += p.TCP.Payload
			}
		}
		if out != 2*1448 || in != 2*1448 || far != 1448 {
			t.Errorf("bytes: %d left the client, %d reached the router, %d the server; want 2896, 2896, 1448", out, in, far)
		}
	})
	t.Run("sockets", func(t *testing.T) {
		var samples []record.Event
		for _, event := range e.Events {
			if event.Socket != nil {
				samples = append(samples, event)
			}
		}
		if len(samples) < 2 {
			t.Fatalf("%d samples, want at least the first and one after the ICMP", len(samples))
		}
		first, last := samples[0], samples[len(samples)-1]
		if first.Socket.PMTU != 1500 || first.Socket.SendMSS != 1448 || first.Socket.State != "ESTABLISHED" {
			t.Errorf("first sample: %+v", first.Socket)
		}
		if last.Socket.PMTU != 1400 || last.Socket.SendMSS != 1348 || last.Socket.Retransmits == 0 {
			t.Errorf("last sample: %+v", last.Socket)
		}
		if first.Connection != "A" || first.Leg != record.AppLeg || first.ID != "S1" {
			t.Errorf("first sample is labelled %+v", first)
		}
	})
	complete(t, e)
	if e.Figures.Alignment > 1 {
		t.Errorf("packet times are uncertain by %v ms", e.Figures.Alignment)
	}
}

// The peer is cut off: the socket waits for its retransmission timer.
func TestSamplerSeesRetransmitTimer(t *testing.T) {
	n := newNetwork(t)
	o, err := evidence.Start(t.Context(), evidence.Config{Nodes: []evidence.Node{n.client}})
	must(t, err)
	client, server := n.connect(t)
	local, remote := endpoints(client)
	must(t, exchange(client, server, 10))
	// The other end down takes the carrier away, but the route stays.
	n.server.down(t, "eth0")
	o.Watch(n.client, "cut", record.AppLeg, local, remote)
	_, err = client.Write(make([]byte, 100))
	must(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	must(t, wait.Until(ctx, "a retransmission", 5*time.Millisecond, func() error {
		s, err := o.Sample(n.client, local, remote)
		if err == nil && s.Retransmits == 0 {
			err = fmt.Errorf("socket %+v", s)
		}
		return err
	}))
	o.Unwatch(local, remote) // with a sample after the retransmission
	// A socket that goes away ends its watch, and that is no loss.
	o.Watch(n.client, "cut", record.AppLeg, local, remote)
	must(t, client.SetLinger(0))
	must(t, client.Close())
	must(t, wait.Until(ctx, "the socket's end", 5*time.Millisecond, func() error {
		_, err := o.Sample(n.client, local, remote)
		if errors.Is(err, evidence.ErrNoSocket) {
			return nil
		}
		return fmt.Errorf("sample: %w", err)
	}))
	e, err := o.Stop()
	must(t, err)
	t.Logf("figures: %+v", e.Figures)

	waits := 0
	for _, event := range e.Events {
		s := event.Socket
		if s == nil {
			continue
		}
		t.Logf("%-4s %8.3f %s", event.ID, event.At, event.Text)
		if s.Timer == record.TimerRetransmit && s.Unacked == 1 {
			waits++
			if s.Expires <= 0 || s.Expires > s.RTO+20 {
				t.Errorf("the retransmission timer is due in %v ms, RTO %v ms", s.Expires, s.RTO)
			}
		}
	}
	if waits < 2 {
		t.Errorf("%d samples wait for the retransmission timer with 1 segment in flight, want 2 or more: before and after the first", waits)
	}
	if e.Figures.Samples < 10 {
		t.Errorf("%d samples in more than 200 ms", e.Figures.Samples)
	}
	complete(t, e)
}

// The receiver's window closes. With nothing in flight and the probe0 timer
// armed that has the signature of the stall, so all samples are kept.
func TestSamplerKeepsAllSamplesOfAStall(t *testing.T) {
	e := stall(t, evidence.Config{SampleGap: time.Minute}) // a busy machine is no failure here
	t.Logf("figures: %+v", e.Figures)
	stalled, last := 0, record.Ms(0)
	for _, event := range e.Events {
		s := event.Socket
		if s == nil {
			continue
		}
		if s.Timer == record.TimerProbe0 && s.Unacked == 0 && s.NotSent > 0 {
			if stalled++; stalled > 1 && event.At-last > e.Figures.MaxGap+0.001 {
				t.Errorf("no sample for %.3f ms before %s, though the longest gap was %.3f ms", event.At-last, event.ID, e.Figures.MaxGap)
			}
		}
		last = event.At
	}
	if stalled < 4 {
		t.Errorf("%d samples of a stall of 150 ms are kept, want one every few milliseconds", stalled)
	}
	complete(t, e)
}

func TestGapsAreALoss(t *testing.T) {
	e := stall(t, evidence.Config{SampleInterval: 20 * time.Millisecond, SampleGap: 10 * time.Millisecond})
	if len(e.Losses) != 1 || e.Losses[0].Source != "sockets" || e.Losses[0].Node != "client" || e.Losses[0].Count < 1 {
		t.Errorf("losses %+v, want one of some gaps", e.Losses)
	}
	if e.Figures.MaxGap < 15 {
		t.Errorf("the longest gap is %v ms with samples every 20 ms", e.Figures.MaxGap)
	}
}

// stall watches a client whose server does not read for 150 ms.
func stall(t *testing.T, c evidence.Config) evidence.Evidence {
	t.Helper()
	n := newNetwork(t)
	c.Nodes = []evidence.Node{n.client}
	o, err := evidence.Start(t.Context(), c)
	must(t, err)
	client, _ := n.connect(t)
	local, remote := endpoints(client)
	go client.Write(make([]byte, 8<<20)) // ends with the connection
	o.Watch(n.client, "full", record.AppLeg, local, remote)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	must(t, wait.Until(ctx, "a closed window", 5*time.Millisecond, func() error {
		s, err := o.Sample(n.client, local, remote)
		if err == nil && (s.Timer != record.TimerProbe0 || s.Unacked > 0 || s.NotSent == 0) {
			err = fmt.Errorf("socket %+v", s)
		}
		return err
	}))
	must(t, wait.For(ctx, 150*time.Millisecond))
	o.Unwatch(local, remote)
	e, err := o.Stop()
	must(t, err)
	return e
}

// Packets on lo are recorded once, and all that were sent before Stop are there.
func TestCaptureIsComplete(t *testing.T) {
	client := newNode(t, "client")
	o, err := evidence.Start(t.Context(), evidence.Config{Nodes: []evidence.Node{client}})
	must(t, err)
	const count = 3000
	sendLoopback(t, client, count)
	e, err := o.Stop()
	must(t, err)
	seen := 0
	for _, event := range e.Events {
		if p := event.Packet; p != nil && p.Protocol == 17 {
			seen++
			if p.Out || event.Interface != "lo" || !p.SelfAddressed() {
				t.Fatalf("packet %+v on %s", p, event.Interface)
			}
		}
	}
	if seen != count {
		t.Errorf("%d packets, want %d", seen, count)
	}
	t.Logf("figures: %+v", e.Figures)
	complete(t, e)
	if _, err := o.Snapshot(); !errors.Is(err, evidence.ErrStopped) {
		t.Errorf("snapshot after stop: %v, want ErrStopped", err)
	}
	if _, err := o.Stop(); !errors.Is(err, evidence.ErrStopped) {
		t.Errorf("second stop: %v, want ErrStopped", err)
	}
}

// What is not kept is said.
func TestPacketsBeyondTheLimitAreALoss(t *testing.T) {
	client := newNode(t, "client")
	o, err := evidence.Start(t.Context(), evidence.Config{Nodes: []evidence.Node{client}, MaxPackets: 10})
	must(t, err)
	sendLoopback(t, client, 25)
	e, err := o.Stop()
	must(t, err)
	if len(e.Events) != 10 || len(e.Losses) != 1 || e.Losses[0].Source != "packets" || e.Losses[0].Count != 15 {
		t.Errorf("%d events, losses %+v; want 10 and a loss of 15", len(e.Events), e.Losses)
	}
}

func TestInterfacesCanBeChosen(t *testing.T) {
	n := newNetwork(t)
	o, err := evidence.Start(t.Context(), evidence.Config{
		Nodes: []evidence.Node{n.client, n.router}, Interfaces: map[string][]string{"router": {"far"}, "client": {"lo"}},
	})
	must(t, err)
	client, server := n.connect(t)
	must(t, exchange(client, server, 10))
	e, err := o.Stop()
	must(t, err)
	if len(e.Events) == 0 {
		t.Error("no packet on far")
	}
	for _, event := range e.Events {
		if event.Node != "router" || event.Interface != "far" {
			t.Errorf("packet on %s of %s", event.Interface, event.Node)
		}
	}
}

func TestOneShots(t *testing.T) {
	n := newNetwork(t)
	client, server := n.connect(t)
	must(t, exchange(client, server, 1448)) // leaves an exception
	local, remote := endpoints(client)
	s, err := evidence.Sample(n.client, local, remote)
	must(t, err)
	if s.Local != local || s.Remote != remote || s.State != "ESTABLISHED" || s.PMTU != 1400 || s.SegsOut < 3 || s.RTO < 200 || s.AdvMSS != 1448 {
		t.Errorf("sample %+v", s)
	}
	again, err := evidence.Sample(n.client, local, remote)
	must(t, err)
	if again.SegsOut != s.SegsOut {
		t.Errorf("a sample made the socket send: %d segments, then %d", s.SegsOut, again.SegsOut)
	}
	if s, err := evidence.Sample(n.client, remote, local); !errors.Is(err, evidence.ErrNoSocket) {
		t.Errorf("sample of a socket of the other node: %+v, %v", s, err)
	}
	must(t, n.server.Do(func() error {
		var config net.ListenConfig
		listener, err := config.Listen(t.Context(), "tcp4", netip.AddrPortFrom(serverAddress, 80).String())
		if err != nil {
			return err
		}
		defer listener.Close()
		stranger := netip.AddrPortFrom(clientAddress, 1)
		if s, err := evidence.Sample(n.server, netip.AddrPortFrom(serverAddress, 80), stranger); !errors.Is(err, evidence.ErrNoSocket) {
			t.Errorf("sample of a listener: %+v, %v", s, err)
		}
		return nil
	}))
	counters, err := evidence.ReadCounters(n.router)
	must(t, err)
	if counters["Icmp.OutDestUnreachs"] != 1 {
		t.Errorf("the router counts %d unreachables, want 1", counters["Icmp.OutDestUnreachs"])
	}
	for _, name := range []string{"Ip.FragFails", "TcpExt.TCPWinProbe", "TcpExt.OutOfWindowIcmps", "IpExt.OutOctets"} {
		if _, ok := counters[name]; !ok {
			t.Errorf("no counter %s", name)
		}
	}
	for range 2 { // a dump must not use up what it shows
		exceptions, err := evidence.Exceptions(n.client)
		must(t, err)
		if len(exceptions) != 1 || exceptions[0].MTU != 1400 {
			t.Errorf("exceptions %+v, want one of mtu 1400", exceptions)
		}
	}
	exceptions, err := evidence.Exceptions(n.server)
	must(t, err)
	if len(exceptions) != 0 {
		t.Errorf("the server has exceptions: %+v", exceptions)
	}
}

// An observer leaves no descriptor open, whether it was stopped or failed to
// start: each would keep its namespace alive.
func TestNothingStaysOpen(t *testing.T) {
	client := newNode(t, "client")
	broken := &node{name: "broken", ns: -1}
	before := descriptors(t)
	o, err := evidence.Start(t.Context(), evidence.Config{Nodes: []evidence.Node{client}})
	must(t, err)
	if during := descriptors(t); during <= before {
		t.Errorf("%d descriptors with an observer, %d before", during, before)
	}
	_, err = o.Stop()
	must(t, err)
	if _, err := evidence.Start(t.Context(), evidence.Config{Nodes: []evidence.Node{client, broken}}); err == nil {
		t.Error("a node that cannot be entered was observed")
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors after, %d before", after, before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

func TestWatchOfAnUnknownNodeIsALoss(t *testing.T) {
	client := newNode(t, "client")
	o, err := evidence.Start(t.Context(), evidence.Config{Nodes: []evidence.Node{client}})
	must(t, err)
	any := netip.MustParseAddrPort("10.0.0.1:1")
	o.Watch(newNode(t, "stranger"), "x", record.AppLeg, any, any)
	e, err := o.Stop()
	must(t, err)
	if len(e.Losses) != 1 || !strings.Contains(e.Losses[0].Detail, evidence.ErrNotObserved.Error()) {
		t.Errorf("losses %+v", e.Losses)
	}
}

func complete(t *testing.T, e evidence.Evidence) {
	t.Helper()
	for _, loss := range e.Losses {
		t.Errorf("lost: %+v", loss)
	}
	letters, last := map[byte]int{}, record.Ms(0)
	for _, event := range e.Events {
		letters[event.ID[0]]++
		if want := fmt.Sprintf("%c%d", event.ID[0], letters[event.ID[0]]); event.ID != want || event.At < last {
			t.Errorf("event %s at %v after %v, want id %s in time order", event.ID, event.At, last, want)
		}
		last = event.At
	}
}

// sendLoopback sends UDP datagrams from a socket to itself, and receives them.
func sendLoopback(t testing.TB, n *node, count int) {
	t.Helper()
	var conn net.PacketConn
	must(t, n.Do(func() (err error) {
		var config net.ListenConfig
		conn, err = config.ListenPacket(t.Context(), "udp4", "127.0.0.1:0")
		return err
	}))
	defer conn.Close()
	buffer := make([]byte, 1)
	for range count {
		_, err := conn.WriteTo(buffer, conn.LocalAddr())
		must(t, err)
		_, _, err = conn.ReadFrom(buffer)
		must(t, err)
	}
}
