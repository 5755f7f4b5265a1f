//go:build linux && kernel

package ktrace

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab"
	"github.com/pmtulab/pmtulab/topology"
)

// victimEnv makes the test binary a process that starts a trace and is killed.
const victimEnv = "KTRACE_VICTIM"

func TestMain(m *testing.M) {
	lab.Main()
	if os.Getenv(victimEnv) != "" {
		if _, err := Start([]uint32{1}); err != nil {
			panic(err)
		}
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	}
	m.Run()
}

// node is a network namespace with nothing but lo, and its inode number.
func node(t *testing.T) (*lab.Node, uint32) {
	t.Helper()
	l, err := lab.Up(t.Context(), topology.Spec{Name: "one", Nodes: []topology.Node{{Name: "node"}}})
	lab.Require(t, err)
	t.Cleanup(func() { _ = l.Close() })
	n := l.Node("node")
	var s unix.Stat_t
	must(t, n.Do(func() error { return unix.Stat("/proc/thread-self/ns/net", &s) }))
	return n, uint32(s.Ino)
}

// refused sends datagrams to a port of n that nobody listens on. Each is
// answered by an ICMP.
func refused(t *testing.T, n *lab.Node, count int) {
	t.Helper()
	must(t, n.Do(func() error {
		c, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer c.Close()
		for range count {
			if _, err := c.WriteTo([]byte("nobody"), &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}); err != nil {
				return err
			}
		}
		return nil
	}))
}

// start is a trace with a buffer of so many bytes. A kernel without probes is a
// missing capability.
func start(t *testing.T, space uint32, buffer int) *Trace {
	t.Helper()
	fs, err := openTracefs()
	if err == nil {
		trace := &Trace{fs: fs, spaces: []uint32{space}, trace: newTrace(), pipe: -1, lock: -1}
		if err = trace.start(buffer); err == nil {
			return trace
		}
		_ = trace.close()
	}
	lab.Require(t, &lab.MissingError{Name: "kprobes", Capability: "probes on kernel functions", Remedy: "use another kernel", Err: err})
	return nil
}

// definitions are the kprobes of the machine.
func definitions(t *testing.T) string {
	t.Helper()
	fs, err := openTracefs()
	must(t, err)
	defer fs.close()
	text, err := os.ReadFile(filepath.Join(fs.dir, "kprobe_events"))
	must(t, err)
	return string(text)
}

func instancesLeft(t *testing.T) []string {
	t.Helper()
	fs, err := openTracefs()
	must(t, err)
	defer fs.close()
	found, err := filepath.Glob(fs.instance(prefix + "*"))
	must(t, err)
	return found
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The ICMPs of one namespace are recorded, those of another are not.
func TestNamespaces(t *testing.T) {
	watched, space := node(t)
	other, _ := node(t)
	trace := start(t, space, mostBuffer)
	refused(t, other, 2)
	refused(t, watched, 3)
	calls, err := trace.Stop()
	must(t, err)
	if len(calls.Calls) != 3 || len(calls.Gaps) != 0 {
		t.Fatalf("%d calls and %d gaps, want 3 and none: %+v", len(calls.Calls), len(calls.Gaps), calls)
	}
	for _, c := range calls.Calls {
		if c.Function != "__icmp_send" || c.Text() != "__icmp_send(type 3, code 3, info 0) ← "+c.Stack[1] || c.Space != space || c.Source.IsValid() {
			t.Errorf("call %+v", c)
		}
		if !slices.Contains(c.Stack, "udp_sendmsg") || c.Stack[0] != "__icmp_send" {
			t.Errorf("stack %v, want one from __icmp_send to udp_sendmsg", c.Stack)
		}
	}
}

// A ring that overflows is a gap with a count.
func TestOverflow(t *testing.T) {
	n, space := node(t)
	trace := start(t, space, 8<<10)
	must(t, n.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/icmp_ratelimit", []byte("0"), 0) }))
	must(t, os.WriteFile("/proc/sys/net/ipv4/icmp_msgs_per_sec", []byte("100000"), 0))
	refused(t, n, 200)
	calls, err := trace.Stop()
	must(t, err)
	lost := 0
	for _, g := range calls.Gaps {
		lost += g.Count
		if g.Before == 0 {
			t.Errorf("gap %+v has no end", g)
		}
	}
	if lost == 0 || len(calls.Calls) == 0 || len(calls.Calls) >= 200 {
		t.Errorf("%d calls of 200 in 8 KiB, %d records lost", len(calls.Calls), lost)
	}
}

// Probes of others stay, those of killed processes go, and so do ours.
func TestLeavesNothing(t *testing.T) {
	_, space := node(t)
	must(t, start(t, space, mostBuffer).close())
	fs, err := openTracefs()
	must(t, err)
	defer fs.close()
	must(t, fs.write("kprobe_events", "p:others/mine tcp_v4_err\n"))
	defer func() { must(t, fs.write("kprobe_events", "-:others/mine\n")) }()

	victim := exec.Command("/proc/self/exe")
	victim.Env = append(os.Environ(), victimEnv+"=1")
	_ = victim.Run() // killed
	left := instancesLeft(t)
	if len(left) != 1 || strings.Count(definitions(t), "\n") < 15 {
		t.Fatalf("the killed process has left %v and the probes\n%s", left, definitions(t))
	}
	first, second := start(t, space, mostBuffer), start(t, space, mostBuffer)
	if strings.Contains(definitions(t), filepath.Base(left[0])) || len(instancesLeft(t)) != 2 {
		t.Errorf("the next traces have left %v and the probes\n%s", instancesLeft(t), definitions(t))
	}
	for _, trace := range []*Trace{first, second} {
		_, err := trace.Stop()
		must(t, err)
	}
	if got := definitions(t); strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, "p:others/mine ") || len(instancesLeft(t)) != 0 {
		t.Errorf("left are %v and the probes\n%s", instancesLeft(t), got)
	}
}
