//go:build linux && kernel

package lab

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/pmtulab/pmtulab/topology"
)

func up(t testing.TB, spec topology.Spec) *Lab {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	l, err := Up(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// echo sends a line from one node to a server in another and returns the time
// that connecting took.
func echo(t testing.TB, from, at *Node, address string) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	l, err := at.Listen(ctx, nil, "tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = io.Copy(c, c)
			c.Close()
		}
		served <- err
	}()
	start := time.Now()
	c, err := from.Dial(ctx, &net.Dialer{KeepAlive: -1}, "tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	defer c.Close()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "hello\n" {
		t.Fatalf("read %q, %v", got, err)
	}
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	return took
}

// A connection made the moment Up returns must not lose its first packets.
func TestFirstPacketIsNotLost(t *testing.T) {
	for i := range 20 {
		l := up(t, report(false))
		if i == 10 {
			for _, p := range l.Phases() {
				t.Logf("%-20s %v", p.Name, p.Duration)
			}
		}
		if took := echo(t, l.Node("client"), l.Node("real"), "10.0.0.6:80"); took > 500*time.Millisecond {
			t.Errorf("connecting took %v: the first SYN was lost", took)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestVirtualServiceIPVS(t *testing.T) {
	l := up(t, report(true))
	for _, p := range l.Phases() {
		t.Logf("%-20s %v", p.Name, p.Duration)
	}
	echo(t, l.Node("client"), l.Node("real"), "10.0.0.2:443")
	got, err := l.Node("lb").Services().Services()
	if err != nil || len(got) != 1 || len(got[0].Destinations) != 1 {
		t.Fatalf("services: %+v, %v", got, err)
	}
	totals, err := l.Node("lb").Services().Totals()
	if err != nil || totals.Connections != 1 || totals.InPackets < 4 || totals.OutPackets != 0 {
		t.Errorf("totals: %+v, %v", totals, err)
	}
	t.Logf("%v %+v %+v", got[0], got[0].Destinations, totals)
	for _, s := range l.Links() {
		t.Logf("%+v", s)
	}
}
