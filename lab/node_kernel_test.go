//go:build linux && kernel

package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab/role"
	"github.com/pmtulab/pmtulab/lab/wait"
)

// current is the namespace of the calling thread.
func current(t testing.TB) string {
	t.Helper()
	inode, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Error(err)
	}
	return inode
}

// inodeOf is the namespace of a node.
func inodeOf(t testing.TB, n *Node) string {
	t.Helper()
	inode, err := os.Readlink(n.NamespacePath())
	if err != nil {
		t.Fatal(err)
	}
	return inode
}

func TestDo(t *testing.T) {
	l := up(t, report(false))
	client, lb := l.Node("client"), l.Node("lb")
	home := current(t)
	in := func(n *Node) {
		t.Helper()
		if got := current(t); got != inodeOf(t, n) {
			t.Errorf("thread is in %s, want node %s", got, n.Name())
		}
	}

	t.Run("nested", func(t *testing.T) {
		err := client.Do(func() error {
			in(client)
			err := lb.Do(func() error { in(lb); return nil })
			in(client)
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("error", func(t *testing.T) {
		want := errors.New("mine")
		if err := client.Do(func() error { return want }); !errors.Is(err, want) {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("panic", func(t *testing.T) {
		defer func() {
			if got := recover(); got != "mine" {
				t.Errorf("recovered %v", got)
			}
		}()
		_ = client.Do(func() error { panic("mine") })
		t.Error("the panic was lost")
	})
	t.Run("bug", func(t *testing.T) {
		defer func() {
			err, ok := recover().(error)
			var bug runtime.Error
			if !ok || !errors.As(err, &bug) || !strings.Contains(err.Error(), "node_kernel_test.go") {
				t.Errorf("recovered %v", err)
			}
		}()
		_ = client.Do(func() error {
			var none []string
			return errors.New(none[len(t.Name())])
		})
	})
	t.Run("goexit", func(t *testing.T) {
		var reached bool
		var wg sync.WaitGroup
		wg.Go(func() {
			_ = client.Do(func() error { runtime.Goexit(); return nil })
			reached = true
		})
		wg.Wait()
		if reached {
			t.Error("the caller went on after runtime.Goexit")
		}
	})
	// Whatever happened above, no ordinary goroutine is in a node.
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			if got := current(t); got != home {
				t.Errorf("a goroutine is in %s, home is %s", got, home)
			}
		})
	}
	wg.Wait()
}

// A thread that cannot return must end, not be used again.
func TestThreadThatCannotReturnEnds(t *testing.T) {
	l := up(t, report(false))
	client := l.Node("client")
	file, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	thread := 0
	lost := namespace{fd: client.FD(), home: int(file.Fd())} // home is no namespace
	for thread == 0 || thread == os.Getpid() {               // the first thread cannot end
		if err := lost.do(func() error { thread = unix.Gettid(); return nil }); err == nil {
			t.Fatal("returning to what is no namespace succeeded")
		}
	}
	err = wait.Until(deadline(t), "the thread to end", time.Millisecond, func() error {
		_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", thread))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("thread %d is there (%w)", thread, err)
	})
	if err != nil {
		t.Error(err)
	}
}

func TestReadFileIsTheNodes(t *testing.T) {
	l := up(t, report(false))
	b, err := l.Node("client").ReadFile("/proc/thread-self/net/dev")
	if err != nil || !strings.Contains(string(b), "eth0:") || strings.Count(string(b), ":") > 2+1 {
		t.Errorf("devices of client: %v\n%s", err, b)
	}
	if _, err := l.Node("client").ReadFile("/no/such"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "node client") {
		t.Error(err)
	}
}

func TestStart(t *testing.T) {
	ctx := deadline(t)
	l := up(t, report(false))
	client := l.Node("client")
	child := role.Command(context.Background(), roleWait) // only the lab may kill it
	in, out, err := os.Pipe()                             // the child waits for its end, which does not come
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer out.Close()
	child.Stdin = in
	printed, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(child); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(printed).ReadString('\n')
	if want := inodeOf(t, client) + " <nil>\n"; err != nil || line != want {
		t.Errorf("child is in %q, want %q (%v)", line, want, err)
	}
	// Threads come and go; the child stays.
	for range 8 {
		done := make(chan struct{})
		go func() { defer close(done); runtime.LockOSThread() }()
		<-done
	}
	if err := child.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("child is gone: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	select {
	case err := <-ended:
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Errorf("child after Close: %v", err)
		}
	case <-ctx.Done():
		t.Error("child lives after Close")
		_ = child.Process.Kill()
	}
	if err := client.Start(role.Command(ctx, roleWait)); !errors.Is(err, ErrClosed) {
		t.Errorf("Start in a closed lab: %v", err)
	}
	if err := client.Do(func() error { return nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("Do in a closed lab: %v", err)
	}
}

// SIGKILL of the process that holds a lab takes its children along, and with the
// last of them the namespaces.
func TestKillLeavesNothing(t *testing.T) {
	Require(t, Probe(report(false)))
	ctx := deadline(t)
	parent := role.Command(ctx, roleParent)
	// Held open: the child must not end because its input does.
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer out.Close()
	parent.Stdin = in
	// The pipe ends when parent and child are both gone.
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	parent.Stdout = write
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	until, _ := ctx.Deadline()
	if err := read.SetReadDeadline(until); err != nil {
		t.Fatal(err)
	}
	output := bufio.NewReader(read)
	line, err := output.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "net:[") {
		t.Fatalf("child printed %q, %v", line, err)
	}
	if line == current(t)+" <nil>\n" {
		t.Error("the child is not in a node")
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	if rest, err := io.ReadAll(output); err != nil {
		t.Errorf("after SIGKILL of its parent the child lives (%q, %v)", rest, err)
	}
}

// Without the right to make namespaces the error says so, and what to do.
func TestWithoutPrivilege(t *testing.T) {
	Require(t, Probe(report(false)))
	binary, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	// A copy that others may execute; tests' directories are closed to them.
	path := fmt.Sprintf("/tmp/pmtulab-test-%d", os.Getpid())
	if err := os.WriteFile(path, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(path)
	cmd := exec.CommandContext(deadline(t), path)
	cmd.Args = []string{role.Prefix + roleUp}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "missing the right to create network namespaces") || !strings.Contains(string(out), "run as root") {
		t.Errorf("%s%v", out, err)
	}
}
