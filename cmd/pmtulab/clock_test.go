//go:build linux && uml

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/wait"
)

// A guest that is stopped again and again, more often than its clock is
// measured for, cannot tell what its kernel did from what its machine did: the
// result is inconclusive, with the figure, and shows the expectations.
func TestUnfitClock(t *testing.T) {
	const stop, resume = 30 * time.Millisecond, 20 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "run", "report", "--on", "uml", "--format", "json")
	cmd.Args[0] = "pmtulab" // see TestMain
	var out bytes.Buffer
	errs := newWatcher("")
	cmd.Stdout, cmd.Stderr = &out, errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	guest := guestOf(t, ctx, cmd.Process.Pid)
	var err error
	for running := true; running; {
		// It may have ended: then there is nobody to stop.
		_ = guest.Signal(syscall.SIGSTOP)
		stopped := wait.For(ctx, stop)
		_ = guest.Signal(syscall.SIGCONT)
		if err := errors.Join(stopped, wait.For(ctx, resume)); err != nil {
			t.Fatalf("%v\n%s", err, errs.text())
		}
		select {
		case err = <-ended:
			running = false
		default:
		}
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 5 {
		t.Fatalf("ended with %v, want exit code 5\n%s", err, errs.text())
	}
	var r record.Result
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v, reasons %q", *r.Clock, r.Reasons)
	said := fmt.Sprintf("a short sleep ended %.1f ms late", r.Clock.Jitter)
	if r.Verdict != record.Inconclusive || !strings.Contains(strings.Join(r.Reasons, "\n"), said) {
		t.Errorf("verdict %s, reasons %q; want %q", r.Verdict, r.Reasons, said)
	}
	if r.Clock.Jitter < record.Millis(stop)/2 || len(r.Expectations) == 0 {
		t.Errorf("clock %+v, %d expectations", *r.Clock, len(r.Expectations))
	}
}

// guestOf waits for the User-Mode Linux of a command, a child of its supervisor.
func guestOf(t *testing.T, ctx context.Context, command int) *os.Process {
	t.Helper()
	var guest *os.Process
	err := wait.Until(ctx, "the guest", 5*time.Millisecond, func() error {
		for _, supervisor := range children(t, command) {
			for _, pid := range children(t, supervisor) {
				line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
				if err == nil && bytes.Contains(line, []byte("linux.uml")) {
					guest, err = os.FindProcess(pid)
					return err
				}
			}
		}
		return errors.New("there is none")
	})
	if err != nil {
		t.Fatal(err)
	}
	return guest
}

// children are the processes that a process has started.
func children(t *testing.T, pid int) []int {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, file := range files {
		list, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		for _, field := range strings.Fields(string(list)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}
