//go:build linux && uml

package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/pmtulab/pmtulab/lab/wait"
)

// TestSIGKILLLeavesNothing kills the command at 30 random moments, ten each
// during start and boot, the stall, and power-off; a second later nothing of it
// may be left, and the host's network must be as before.
func TestSIGKILLLeavesNothing(t *testing.T) {
	scratch := t.TempDir()
	network := hostNetwork(t)
	for name, after := range map[string]string{
		"start and boot": "",
		"stall":          "request B",
		"power-off":      "take the network down",
	} {
		t.Run(name, func(t *testing.T) {
			for range 10 {
				killOnce(t, scratch, after)
				if after := hostNetwork(t); after != network {
					t.Fatalf("the host's network changed from\n%s\nto\n%s", network, after)
				}
			}
		})
	}
}

// killOnce runs the report and kills the command at random within 600 ms of the
// progress line that starts with after.
func killOnce(t *testing.T, scratch, after string) {
	t.Helper()
	before := leftovers(t, scratch)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "run", "report", "--on", "uml")
	cmd.Args[0] = "pmtulab" // see TestMain
	cmd.Env = append(os.Environ(), "TMPDIR="+scratch)
	seen := newWatcher(after)
	cmd.Stderr = seen
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if after != "" {
		select {
		case <-seen.found:
		case <-ctx.Done():
			t.Fatalf("never saw %q in:\n%s", after, seen.text())
		}
	}
	delay := time.Duration(rand.Int64N(int64(600 * time.Millisecond)))
	_ = wait.For(ctx, delay)
	_ = cmd.Process.Signal(syscall.SIGKILL) // it may have ended already
	_ = cmd.Wait()
	_ = wait.For(ctx, time.Second)
	if left := leftovers(t, scratch); !slices.Equal(left, before) {
		t.Fatalf("killed %v after %q, a second later there are\n%s\nand there were\n%s", delay, after, strings.Join(left, "\n"), strings.Join(before, "\n"))
	}
}

// leftovers are the processes of guests and of this binary, the files in the
// places where guests put some, and the namespaces of the machine.
func leftovers(t *testing.T, scratch string) []string {
	t.Helper()
	var out []string
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		line, err := os.ReadFile(p)
		if err != nil {
			continue // it has ended
		}
		text := string(bytes.ReplaceAll(line, []byte{0}, []byte{' '}))
		if strings.Contains(text, "linux.uml") || strings.HasPrefix(text, "pmtulab:") || strings.Contains(text, scratch) {
			out = append(out, "process "+text)
		}
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{scratch, "/dev/shm", filepath.Join(home, ".uml")} {
		entries, _ := os.ReadDir(dir) // it need not exist
		for _, e := range entries {
			out = append(out, "file "+filepath.Join(dir, e.Name()))
		}
	}
	namespaces, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range namespaces {
		if name, err := os.Readlink(n); err == nil {
			out = append(out, "namespace "+name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// hostNetwork is the state of the host's network that a run could disturb.
func hostNetwork(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	list := func(what string, items any, err error) {
		if err != nil {
			t.Fatalf("list %s: %v", what, err)
		}
		fmt.Fprintf(&out, "%s: %v\n", what, items)
	}
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatalf("list links: %v", err)
	}
	for _, l := range links {
		a := l.Attrs()
		fmt.Fprintf(&out, "link %d %s %s mtu %d %v %s\n", a.Index, a.Name, l.Type(), a.MTU, a.Flags, a.HardwareAddr)
	}
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	list("addresses", addresses, err)
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{}, netlink.RT_FILTER_TABLE)
	list("routes", routes, err)
	rules, err := netlink.RuleList(netlink.FAMILY_ALL)
	list("rules", rules, err)
	err = filepath.WalkDir("/proc/sys/net", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.Contains(path, "/neigh/") || strings.HasSuffix(path, "/flush") {
			return nil
		}
		if value, err := os.ReadFile(path); err == nil && !slices.Contains(volatile, filepath.Base(path)) {
			fmt.Fprintf(&out, "%s=%s", path, value)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// volatile are files of /proc/sys/net that count, and are not set.
var volatile = []string{"nf_conntrack_count", "tcp_fastopen_key"}

// watcher is a writer that notices a text.
type watcher struct {
	want  string
	found chan struct{}
	mu    sync.Mutex
	seen  []byte
	done  bool
}

func newWatcher(want string) *watcher {
	return &watcher{want: want, found: make(chan struct{})}
}

func (w *watcher) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, p...)
	if !w.done && w.want != "" && bytes.Contains(w.seen, []byte(w.want)) {
		w.done = true
		close(w.found)
	}
	return len(p), nil
}

func (w *watcher) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.seen)
}
