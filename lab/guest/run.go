// Run: the life of a guest as the host sees it.

package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/role"
	"github.com/pmtulab/pmtulab/lab/wait"
)

// powerOffTimeout is how long a guest that has said all may take to end.
const powerOffTimeout = time.Second

// The deadlines of a Job as causes of a guest's end, and a state to wait out.
var (
	errBootDeadline = errors.New("boot deadline")
	errRunDeadline  = errors.New("run deadline")
	errStillThere   = errors.New("some are still there")
)

// Run boots k, runs job in it and waits for its end. Whatever became of the
// guest is in the Result. An error says that there was no guest to speak of, or
// that ctx ended it: the Outcome is then GuestInfrastructure. When Run returns
// no process and no file of the guest is left.
func Run(ctx context.Context, k Kernel, job Job) (Result, error) {
	r := run{job: job, result: Result{Outcome: record.GuestInfrastructure, ExitCode: -1}}
	if k.Machine != UML {
		return r.result, fmt.Errorf("run guest: machine %q is not known; use a kernel of FindUML", k.Machine)
	}
	began := time.Now()
	initramfs, err := buildInitramfs(k, job)
	if err != nil {
		return r.result, fmt.Errorf("run guest: %w", err)
	}
	defer initramfs.Close()
	r.phase("initramfs", began)
	if err := r.guest(ctx, k, initramfs); err != nil {
		return r.result, fmt.Errorf("run guest: %w", err)
	}
	return r.result, nil
}

// run is the state of one call of Run.
type run struct {
	job    Job
	result Result
	log    boundedLog
	begun  startInfo
	exit   *exitStatus
	// failure is init's own account of why there is no program.
	failure string
	// lost is why the channel ended, wanted or not.
	lost error
	// output is the first error of the caller's writers.
	output error

	supervisor *exec.Cmd
	lifeline   *os.File
	stderr     strings.Builder // of the supervisor: a Go panic
	reports    []supervisorReport
}

// phase ends a phase now.
func (r *run) phase(name string, began time.Time) (now time.Time) {
	now = time.Now()
	r.phaseUntil(name, began, now)
	return now
}

func (r *run) phaseUntil(name string, began, ended time.Time) {
	took := max(0, ended.Sub(began))
	r.result.Phases = append(r.result.Phases, record.Phase{Name: name, Ms: record.Millis(took)})
}

// guest starts the supervisor and follows the guest to its end.
func (r *run) guest(ctx context.Context, k Kernel, initramfs *os.File) error {
	console, channel, status, err := r.start(k, initramfs)
	if err != nil {
		return err
	}
	defer r.lifeline.Close()
	var readers sync.WaitGroup
	readers.Go(func() {
		defer console.Close()
		r.readConsole(console)
	})
	marks := make(chan frameType, 8) // started, failure or exit
	readers.Go(func() {
		defer channel.Close()
		defer close(marks)
		r.readChannel(channel, marks)
	})
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		defer status.Close()
		for d := json.NewDecoder(status); ; {
			var report supervisorReport
			if d.Decode(&report) != nil {
				break
			}
			r.reports = append(r.reports, report)
		}
		_ = r.supervisor.Wait()
		if !r.cleanUp() {
			// Whatever still holds these must not hold Run.
			deadline := time.Now().Add(powerOffTimeout)
			_ = console.SetReadDeadline(deadline)
			_ = channel.SetReadDeadline(deadline)
		}
	}()
	cause := r.follow(ctx, marks, gone)
	r.lifeline.Close()
	<-gone
	for range marks { // a reader must not wait for follow, which has returned
	}
	readers.Wait()
	return r.conclude(cause)
}

// start makes the pipes and starts the supervisor.
func (r *run) start(k Kernel, initramfs *os.File) (console, channel, status *os.File, err error) {
	spec, err := json.Marshal(machineSpec{Kernel: k, MemoryMiB: r.job.memoryMiB()})
	if err != nil {
		return nil, nil, nil, fmt.Errorf("describe the guest: %w", err)
	}
	var ours, theirs [4]*os.File
	closeAll := func(files []*os.File) {
		for _, f := range files {
			f.Close() // nil is fine: it returns an error
		}
	}
	for i := range ours {
		if ours[i], theirs[i], err = os.Pipe(); err != nil {
			closeAll(ours[:])
			closeAll(theirs[:])
			return nil, nil, nil, fmt.Errorf("make the guest's pipes: %w", err)
		}
	}
	ours[0], theirs[0] = theirs[0], ours[0] // the lifeline runs the other way
	// The supervisor outlives the context on purpose: it is what cleans up.
	r.supervisor = role.Command(context.Background(), supervisorRole, string(spec))
	r.supervisor.Dir = "/"
	r.supervisor.Stdout = theirs[3]
	r.supervisor.Stderr = &r.stderr
	r.supervisor.ExtraFiles = []*os.File{theirs[0], initramfs, theirs[1], theirs[2]}
	r.supervisor.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = r.supervisor.Start()
	closeAll(theirs[:])
	if err != nil {
		closeAll(ours[:])
		return nil, nil, nil, fmt.Errorf("start the guest's supervisor: %w", err)
	}
	r.lifeline = ours[0]
	return ours[1], ours[2], ours[3], nil
}

// cleanUp does what a supervisor that was killed could not; orderly tells that
// there was nothing to do.
func (r *run) cleanUp() (orderly bool) {
	var dir string
	var pid int
	for _, report := range r.reports {
		switch {
		case report.Ended != "" || report.Failed != "" || report.NoDir != nil:
			return true
		case report.Dir != "":
			dir = report.Dir
		case report.Pid != 0:
			pid = report.Pid
		}
	}
	if pid != 0 {
		ctx, cancel := context.WithTimeout(context.Background(), powerOffTimeout)
		defer cancel()
		_ = wait.Until(ctx, "the end of the guest's processes", 5*time.Millisecond, func() error {
			if err := syscall.Kill(-pid, syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) {
				return errStillThere
			}
			return nil
		})
	}
	if dir != "" {
		_ = os.RemoveAll(dir)
	}
	return false
}

// follow waits through the phases of a guest, to its end and that of the
// channel; the cause is nil when the guest ended by itself.
func (r *run) follow(ctx context.Context, marks <-chan frameType, gone <-chan struct{}) (cause error) {
	last := time.Now()
	deadline := time.NewTimer(r.job.bootTimeout())
	defer deadline.Stop()
	expired := errBootDeadline
	var ended time.Time
	said := false // all there is to say
	for marks != nil || gone != nil {
		select {
		case <-ctx.Done():
			return context.Cause(ctx) //nolint:wrapcheck // the caller's own
		case <-deadline.C:
			return expired
		case <-gone:
			gone, ended = nil, time.Now()
		case mark, ok := <-marks:
			if !ok {
				marks = nil
				continue
			}
			switch mark {
			case frameStarted:
				loaded := last.Add(time.Since(last) - r.begun.Modules)
				r.phaseUntil("boot", last, loaded)
				last = r.phase("modules", loaded)
				expired = errRunDeadline
				deadline.Stop()
				if r.job.RunTimeout > 0 {
					deadline.Reset(r.job.RunTimeout)
				}
			case frameExit, frameFailure:
				last = r.phase("run", last)
				expired, said = nil, true
				deadline.Reset(powerOffTimeout)
			}
		}
	}
	if said {
		r.phaseUntil("power-off", last, ended)
	}
	return nil
}

// conclude turns what was seen into an outcome.
func (r *run) conclude(cause error) error {
	r.result.KernelLog = r.log.bytes()
	if err := r.supervisorError(); err != nil {
		return err
	}
	if r.output != nil {
		return fmt.Errorf("deliver the program's output: %w", r.output)
	}
	if r.exit != nil {
		r.result.Outcome, r.result.ExitCode = record.GuestFinished, r.exit.Code
		return nil
	}
	if r.failure != "" {
		return fmt.Errorf("init of the guest: %s", r.failure)
	}
	outcome, detail, crashed := findCrash(r.result.KernelLog)
	switch {
	case crashed:
		r.result.Outcome, r.result.Detail = outcome, detail
	case errors.Is(cause, errBootDeadline):
		r.result.Outcome = record.GuestHangBoot
		r.result.Detail = fmt.Sprintf("the program did not start within %v; last line of the kernel log: %q",
			r.job.bootTimeout(), lastLine(r.result.KernelLog))
	case errors.Is(cause, errRunDeadline):
		r.result.Outcome = record.GuestHangRun
		r.result.Detail = fmt.Sprintf("the program did not end within %v", r.job.RunTimeout)
	case cause != nil:
		return cause
	default:
		r.result.Outcome = record.GuestLost
		r.result.Detail = fmt.Sprintf("the guest ended (%s) without a final record: %v; last line of the kernel log: %q",
			r.ended(), r.lost, lastLine(r.result.KernelLog))
	}
	return nil
}

// supervisorError is why there was no guest, or nil.
func (r *run) supervisorError() error {
	for _, report := range r.reports {
		if report.NoDir != nil {
			return report.NoDir
		}
		if report.Failed != "" {
			return errors.New(report.Failed)
		}
	}
	if text := strings.TrimSpace(r.stderr.String()); text != "" {
		return fmt.Errorf("the guest's supervisor failed: %s", text)
	}
	if len(r.reports) == 0 {
		return errors.New("the guest's supervisor ended without a report")
	}
	return nil
}

// ended is how the guest's main process ended.
func (r *run) ended() string {
	for _, report := range r.reports {
		if report.Ended != "" {
			return report.Ended
		}
	}
	return "its supervisor was killed"
}

// readConsole keeps the kernel log. A console that nobody reads stalls a guest,
// so an error of the caller's writer does not end it.
func (r *run) readConsole(console io.Reader) {
	w := io.Writer(&r.log)
	if r.job.Console != nil {
		w = io.MultiWriter(&r.log, tolerant{r.job.Console})
	}
	_, _ = io.Copy(w, console)
}

// tolerant is a writer that never fails.
type tolerant struct{ w io.Writer }

func (t tolerant) Write(b []byte) (int, error) {
	_, _ = t.w.Write(b)
	return len(b), nil
}

// readChannel delivers the program's output and notes the guest's progress. It
// reads to the end of the stream in any case, so that a guest can write.
func (r *run) readChannel(channel io.Reader, marks chan<- frameType) {
	frames := newFrameReader(channel)
	for {
		t, payload, err := frames.read()
		if err != nil {
			r.lost = err
			_, _ = io.Copy(io.Discard, channel)
			return
		}
		switch t {
		case frameStdout:
			r.deliver(r.job.Stdout, payload)
		case frameStderr:
			r.deliver(r.job.Stderr, payload)
		case frameRecord:
			if r.job.Records != nil {
				r.job.Records(payload)
			}
		case frameFailure:
			r.failure = string(payload)
			marks <- t
		case frameExit:
			var status exitStatus
			if err := json.Unmarshal(payload, &status); err != nil {
				r.lost = fmt.Errorf("read the exit status: %w", err)
				continue
			}
			r.exit = &status
			marks <- t
		case frameHello:
			if string(payload) != protocolVersion {
				r.lost = fmt.Errorf("read the guest's greeting: %w: %q", errCorrupt, payload)
				_, _ = io.Copy(io.Discard, channel)
				return
			}
		case frameStarted:
			if err := json.Unmarshal(payload, &r.begun); err != nil {
				r.lost = fmt.Errorf("read the start of the program: %w", err)
				continue
			}
			marks <- t
		default:
			r.lost = fmt.Errorf("read frame: %w: unknown type %d", errCorrupt, t)
			_, _ = io.Copy(io.Discard, channel)
			return
		}
	}
}

func (r *run) deliver(w io.Writer, b []byte) {
	if w == nil || r.output != nil {
		return
	}
	if _, err := w.Write(b); err != nil {
		r.output = err
	}
}
