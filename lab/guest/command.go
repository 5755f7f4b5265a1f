// The command's side of the supervisor: it starts it, hears its reports, and
// does what a supervisor that was killed could not.

package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab/role"
	"github.com/pmtulab/pmtulab/lab/wait"
)

// supervised is a guest under its supervisor, as the command holds it.
type supervised struct {
	// lifeline ends the guest when it is closed.
	lifeline *os.File
	// console and monitor are stream sockets, channel is a pipe.
	console, channel, monitor *os.File

	cmd    *exec.Cmd
	status *os.File
	stderr strings.Builder // of the supervisor: a Go panic

	mu      sync.Mutex
	reports []supervisorReport
}

// startSupervisor starts the guest that spec describes. The caller calls wait
// once, and closes the files.
func startSupervisor(spec machineSpec, initramfs *os.File) (_ *supervised, err error) {
	argument, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("describe the guest: %w", err)
	}
	s := &supervised{}
	var theirs [5]*os.File
	defer func() {
		closeAll(theirs[:]...)
		if err != nil {
			closeAll(s.lifeline, s.console, s.channel, s.monitor, s.status)
		}
	}()
	for _, link := range []struct {
		first, second **os.File
		pair          func() (first, second *os.File, err error)
	}{
		{&theirs[0], &s.lifeline, os.Pipe}, // pipes run from second to first
		{&s.console, &theirs[1], socketPair},
		{&s.channel, &theirs[2], os.Pipe},
		{&s.monitor, &theirs[3], socketPair},
		{&s.status, &theirs[4], os.Pipe},
	} {
		if *link.first, *link.second, err = link.pair(); err != nil {
			return nil, fmt.Errorf("make the guest's pipes: %w", err)
		}
	}
	// The supervisor outlives the context on purpose: it is what cleans up.
	s.cmd = role.Command(context.Background(), supervisorRole, string(argument))
	s.cmd.Dir = "/"
	s.cmd.Stdout = theirs[4]
	s.cmd.Stderr = &s.stderr
	s.cmd.ExtraFiles = []*os.File{theirs[0], theirs[1], theirs[2], initramfs, theirs[3]}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the guest's supervisor: %w", err)
	}
	return s, nil
}

// socketPair is a pair of connected stream sockets; the first takes deadlines.
func socketPair() (first, second *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a pair of sockets: %w", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, nil, fmt.Errorf("make a pair of sockets: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "socket"), os.NewFile(uintptr(fds[1]), "socket"), nil
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		f.Close() // nil is fine: it returns an error
	}
}

// wait hears the supervisor's reports until it ends, and cleans up after one
// that was killed.
func (s *supervised) wait() {
	defer s.status.Close()
	for d := json.NewDecoder(s.status); ; {
		var report supervisorReport
		if d.Decode(&report) != nil {
			break
		}
		s.mu.Lock()
		s.reports = append(s.reports, report)
		s.mu.Unlock()
	}
	_ = s.cmd.Wait()
	if !s.cleanUp() {
		// Whatever still holds these must not hold Run.
		deadline := time.Now().Add(powerOffTimeout)
		_ = s.console.SetReadDeadline(deadline)
		_ = s.channel.SetReadDeadline(deadline)
	}
}

// heard joins the reports that came so far.
func (s *supervised) heard() supervisorReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all supervisorReport
	for _, r := range s.reports {
		all.Dir += r.Dir
		all.Pid += r.Pid
		all.Ended += r.Ended
		all.Failed += r.Failed
		if r.NoDir != nil {
			all.NoDir = r.NoDir
		}
	}
	return all
}

// cleanUp does what a supervisor that was killed could not; orderly tells that
// there was nothing to do.
func (s *supervised) cleanUp() (orderly bool) {
	heard := s.heard()
	if heard.Ended != "" || heard.Failed != "" || heard.NoDir != nil {
		return true
	}
	if heard.Pid != 0 {
		ctx, cancel := context.WithTimeout(context.Background(), powerOffTimeout)
		defer cancel()
		_ = wait.Until(ctx, "the end of the guest's processes", 5*time.Millisecond, func() error {
			if err := syscall.Kill(-heard.Pid, syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) {
				return errStillThere
			}
			return nil
		})
	}
	_ = os.RemoveAll(heard.Dir) // none: nothing is removed
	return false
}

var errStillThere = errors.New("some are still there")

// failure is why there was no guest, or nil.
func (s *supervised) failure() error {
	heard := s.heard()
	switch text := strings.TrimSpace(s.stderr.String()); {
	case heard.NoDir != nil:
		return heard.NoDir
	case heard.Failed != "":
		return errors.New(heard.Failed)
	case text != "":
		return fmt.Errorf("the guest's supervisor failed: %s", text)
	case heard == (supervisorReport{}):
		return errors.New("the guest's supervisor ended without a report")
	}
	return nil
}

// ended is how the guest's main process ended.
func (s *supervised) ended() string {
	if ended := s.heard().Ended; ended != "" {
		return ended
	}
	return "its supervisor was killed"
}
