//go:build linux && kernel

package ktrace

import (
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab"
	"github.com/pmtulab/pmtulab/topology"
)

func TestMain(m *testing.M) {
	lab.Main()
	os.Exit(m.Run())
}

// node is a network namespace with nothing but lo, and its inode number.
func node(t *testing.T) (*lab.Node, uint32) {
	t.Helper()
	l, err := lab.Up(t.Context(), topology.Spec{Name: "one", Nodes: []topology.Node{{Name: "node"}}})
	lab.Require(t, err)
	t.Cleanup(func() { _ = l.Close() })
	n := l.Node("node")
	var s unix.Stat_t
	if err := n.Do(func() error { return unix.Stat("/proc/thread-self/ns/net", &s) }); err != nil {
		t.Fatal(err)
	}
	return n, uint32(s.Ino)
}

// refused sends a datagram to a port of n that nobody listens on.
func refused(t *testing.T, n *lab.Node) {
	t.Helper()
	err := n.Do(func() error {
		c, err := net.Dial("udp4", "127.0.0.1:9")
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("nobody"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestTrace(t *testing.T) {
	n, space := node(t)
	before := time.Now()
	trace, err := Start([]uint32{space})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("start took %v", time.Since(before))
	for _, p := range trace.probes {
		t.Logf("%s %s", p.name, p.symbol)
	}
	refused(t, n)
	before = time.Now()
	calls, err := trace.Stop()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("stop took %v", time.Since(before))
	t.Logf("%+v", calls)
}
