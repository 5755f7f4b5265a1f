//go:build linux && (uml || qemu)

// Nothing is left of a guest when the command, or the supervisor, is killed.

package guest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab/guest"
	"github.com/pmtulab/pmtulab/lab/wait"
)

// descendants lists the processes below this one as "PID NAME STATE". They stay
// below it when their parents die, because the test is a subreaper.
func descendants(t *testing.T) []string {
	t.Helper()
	for { // zombies that were given to us are no leak
		if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
			break
		}
	}
	type process struct {
		name string
		ppid int
	}
	all := map[int]process{}
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		s := string(b)
		open, end := strings.IndexByte(s, '('), strings.LastIndexByte(s, ')')
		fields := strings.Fields(s[end+1:])
		pid, _ := strconv.Atoi(strings.TrimSpace(s[:open]))
		ppid, _ := strconv.Atoi(fields[1])
		all[pid] = process{s[open:end+1] + " " + fields[0], ppid}
	}
	var found []string
	for pid, p := range all {
		for up := p.ppid; up > 1; up = all[up].ppid {
			if up == os.Getpid() {
				found = append(found, fmt.Sprint(pid, " ", p.name))
				break
			}
		}
	}
	return found
}

// leftovers lists files that a guest may leave in HOME and TMPDIR.
func leftovers(t *testing.T, home, tmp string) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{home + "/*", home + "/.uml", home + "/.cache", tmp + "/*"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, files...)
	}
	return found
}

// clean fails the test when something of a guest is there a second after an end.
func clean(t *testing.T, home, tmp string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := wait.Until(ctx, "the end of the guest", 10*time.Millisecond, func() error {
		if p, f := descendants(t), leftovers(t, home, tmp); len(p)+len(f) > 0 {
			return fmt.Errorf("processes %q, files %q", p, f)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// memoryDir is a directory on a tmpfs, removed with the test.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "pmtulab-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func startCommand(t *testing.T, k guest.Kernel, home, tmp string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", append([]string{"job", "run", kernelArg(k)}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+home, "TMPDIR="+tmp)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// The command is killed at thirty random moments: in its start, while the
// guest boots or runs a job that never ends, and around an ordinary end.
func TestKilledCommandLeavesNothing(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	each(t, func(t *testing.T, k guest.Kernel) {
		began := time.Now()
		run(t, k, self("exit", "0"), 0)
		whole := time.Since(began)
		seen := map[string]int{}
		for i := range 30 {
			home := t.TempDir()
			tmp := home
			if i%2 == 0 {
				tmp = memoryDir(t)
			}
			var after time.Duration
			var cmd *exec.Cmd
			switch {
			case i < 10:
				cmd = startCommand(t, k, home, tmp, "spin")
				after = rand.N(60 * time.Millisecond)
			case i < 20:
				cmd = startCommand(t, k, home, tmp, "spin")
				after = rand.N(whole)
			default:
				cmd = startCommand(t, k, home, tmp, "exit", "0")
				after = whole/2 + rand.N(whole*2/3)
			}
			_ = wait.For(t.Context(), after)
			seen[fmt.Sprint(len(descendants(t)))+" processes"]++
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			clean(t, home, tmp)
			if t.Failed() {
				t.Fatalf("killed after %v", after)
			}
		}
		t.Logf("a whole guest takes %v; at the moment of the kill: %v", whole, seen)
	})
}

// The supervisor is killed while the command lives: the command cleans up.
func TestKilledSupervisorLeavesNothing(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	each(t, func(t *testing.T, k guest.Kernel) {
		for range 5 {
			home := t.TempDir()
			cmd := startCommand(t, k, home, home, "spin")
			_ = wait.For(t.Context(), 100*time.Millisecond+rand.N(600*time.Millisecond))
			signalDescendants(t, "pmtulab:supervisor")
			_ = cmd.Wait()
			clean(t, home, home)
		}
	})
}

// signalDescendants kills the processes below this one whose command line
// begins with name; it returns how many there were.
func signalDescendants(t *testing.T, name string) (killed int) {
	t.Helper()
	for _, p := range descendants(t) {
		pid, rest, _ := strings.Cut(p, " ")
		n, _ := strconv.Atoi(pid)
		cmdline, _ := os.ReadFile("/proc/" + pid + "/cmdline")
		if strings.HasPrefix(string(cmdline), name) {
			t.Log("kill", pid, rest)
			_ = syscall.Kill(n, syscall.SIGKILL)
			killed++
		}
	}
	return killed
}
