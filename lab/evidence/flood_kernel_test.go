//go:build linux && kernel

package evidence_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/pmtulab/pmtulab/lab/evidence"
	"github.com/pmtulab/pmtulab/lab/wait"
)

// One node sends datagrams to another as fast as it can. Each is in the capture
// or counted as missing, at either end: the witness is what the devices count.
// PMTULAB_PACKETS makes it longer; make soak has 1,000,000.
func TestEveryPacketIsCounted(t *testing.T) {
	count := 20_000
	if n, err := strconv.Atoi(os.Getenv("PMTULAB_PACKETS")); err == nil {
		count = n
	}
	from, to := newNode(t, "from"), newNode(t, "to")
	nodes := []*node{from, to}
	for _, n := range nodes {
		n.withoutIPv6(t) // whose multicast comes when it likes
	}
	from.link(t, "eth0", 1500, to, "eth0", 1500)
	from.address(t, "eth0", clientAddress)
	to.address(t, "eth0", routerNear)
	conn := from.datagrams(t, to, routerNear)
	send := func(count int) {
		t.Helper()
		for range count {
			_, err := conn.Write([]byte("payload."))
			must(t, err)
		}
	}
	send(1) // ARP

	o, err := evidence.Start(t.Context(), evidence.Config{
		Nodes: []evidence.Node{from, to}, SnapLength: 1514, MaxPackets: min(count/2, 20_000),
	})
	must(t, err)
	received, err := o.Snapshot()
	must(t, err)
	before := map[string]devicePackets{}
	for _, n := range nodes {
		before[n.name] = n.devicePackets(t)
	}
	begun := time.Now()
	send(count)
	took := time.Since(begun)
	refused := int64(from.devicePackets(t).dropped - before["from"].dropped)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	must(t, wait.Until(ctx, "the last datagram", time.Millisecond, func() error {
		now, err := o.Snapshot()
		if got := evidence.Delta(received, now)["to"]["Ip.InReceives"]; err == nil && got < int64(count)-refused {
			err = fmt.Errorf("%d of %d came, %d were refused by the device", got, count, refused)
		}
		return err
	}))
	want := map[string]int{}
	for _, n := range nodes {
		now := n.devicePackets(t)
		want[n.name] = now.sum() - before[n.name].sum()
	}
	e, err := o.Stop()
	must(t, err)

	c, got, inFile, lost := e.Capture, map[string]int{}, make([]int, len(e.Capture.Interfaces)), map[string]int{}
	for _, f := range c.Frames {
		inFile[f.Interface]++
	}
	for _, l := range e.Losses {
		lost[l.Node] += l.Count
	}
	events := 0
	for _, event := range e.Events {
		if event.Packet != nil {
			events++
		}
	}
	for n, i := range c.Interfaces {
		got[i.Node] += i.Received
		t.Logf("%s/%s: %d received, %d in the file", i.Node, i.Name, i.Received, inFile[n])
	}
	t.Logf("%d datagrams in %v, %.0f a second; dropped %v, omitted %d, losses %v",
		count, took.Round(time.Millisecond), float64(count)/took.Seconds(), c.Dropped, c.Omitted, e.Losses)
	for _, n := range nodes {
		if sum := got[n.name] + c.Dropped[n.name]; sum != want[n.name] || sum < count && n == from {
			t.Errorf("%s: %d received and %d dropped, its device had %d", n.name, got[n.name], c.Dropped[n.name], want[n.name])
		}
		if lost[n.name] < c.Dropped[n.name] {
			t.Errorf("%s: %d dropped, a loss of %d", n.name, c.Dropped[n.name], lost[n.name])
		}
	}
	if all := e.Figures.Packets; len(c.Frames)+c.Omitted != all || got["from"]+got["to"] != all {
		t.Errorf("%d packets, but %d in the file and %d omitted, %v received", all, len(c.Frames), c.Omitted, got)
	}
	decoded, missing := e.Figures.Packets-e.Figures.NotIPv4, lost["from"]+lost["to"]-c.Dropped["from"]-c.Dropped["to"]
	if events+missing != decoded {
		t.Errorf("%d packets of IPv4, but %d events and a loss of %d", decoded, events, missing)
	}
}

// datagrams is a socket that sends to a port of another node, where nobody reads:
// what the socket there has no room for, its kernel drops after all have seen it.
func (n *node) datagrams(t testing.TB, to *node, address netip.Addr) (conn net.Conn) {
	t.Helper()
	remote := netip.AddrPortFrom(address, port).String()
	must(t, to.Do(func() error {
		var config net.ListenConfig
		listener, err := config.ListenPacket(t.Context(), "udp4", remote)
		if err == nil {
			t.Cleanup(func() { listener.Close() })
		}
		return err
	}))
	must(t, n.Do(func() (err error) {
		var dialer net.Dialer
		conn, err = dialer.DialContext(t.Context(), "udp4", remote)
		return err
	}))
	t.Cleanup(func() { conn.Close() })
	return conn
}

func (n *node) withoutIPv6(t testing.TB) {
	t.Helper()
	must(t, n.Do(func() error {
		err := os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // this kernel has none
		}
		return err
	}))
}

// devicePackets are what eth0 has counted. Of those that were sent, dropped are
// the ones that its peer had no room for.
type devicePackets struct{ sent, dropped, received int }

func (d devicePackets) sum() int { return d.sent + d.dropped + d.received }

func (n *node) devicePackets(t testing.TB) devicePackets {
	t.Helper()
	s := n.find(t, "eth0").Attrs().Statistics
	return devicePackets{int(s.TxPackets), int(s.TxDropped), int(s.RxPackets)}
}
