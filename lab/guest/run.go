// Run: the life of a guest as the host sees it.

package guest

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/pmtulab/pmtulab/lab/record"
)

// powerOffTimeout is how long a guest that has said all may take to end.
const powerOffTimeout = time.Second

// What ended a guest that did not end by itself.
var (
	errSilence      = errors.New("silence")
	errBootDeadline = errors.New("boot deadline")
	errRunDeadline  = errors.New("run deadline")
	errBroken       = errors.New("channel broken")
)

// Run boots k, runs job in it and waits for its end. Whatever became of the
// guest is in the Result. An error says that there was no guest to speak of, or
// that ctx ended it: the Outcome is then GuestInfrastructure. When Run returns
// no process and no file of the guest is left.
func Run(ctx context.Context, k Kernel, job Job) (Result, error) {
	result, err := boot(ctx, k, job)
	if err != nil {
		return result, fmt.Errorf("run guest: %w", err)
	}
	return result, nil
}

// boot packs what the guest needs and boots it, a second time when KVM turns
// out not to work.
func boot(ctx context.Context, k Kernel, job Job) (Result, error) {
	nothing := Result{Outcome: record.GuestInfrastructure, ExitCode: -1}
	m, err := machineOf(k)
	if err != nil {
		return nothing, err
	}
	job.BootTimeout = cmp.Or(job.BootTimeout, m.bootTimeout())
	k.Args = slices.Insert(slices.Clone(k.Args), 0, seedParameter+hex.EncodeToString(randomBytes(64)))
	spec := machineSpec{Kernel: k, MemoryMiB: job.memoryMiB()}
	if spec.Program, err = m.program(); err != nil {
		return nothing, err
	}
	began := time.Now()
	initramfs, err := buildInitramfs(k, m.channel(), job)
	if err != nil {
		return nothing, err
	}
	defer initramfs.Close()
	packed := record.Phase{Name: "initramfs", Ms: record.Millis(time.Since(began))}
	r, err := accelerated(ctx, spec, func(a acceleration) (*run, error) {
		r := &run{job: job, machine: m, accel: a, result: nothing}
		r.result.Accelerator = a.Accelerator
		spec.Accelerator = a.Name
		return r, r.guest(ctx, spec, initramfs)
	})
	if r == nil {
		return nothing, err
	}
	r.result.Phases = slices.Insert(r.result.Phases, 0, packed)
	return r.result, err
}

// randomBytes are n of them.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, says crypto/rand
	return b
}

// run is one boot of a guest.
type run struct {
	job     Job
	machine machine
	accel   acceleration
	*supervised
	result Result

	log consoleLog
	// cause is what ended the guest; nil when it ended by itself.
	cause error
	// greeted tells that init has sent its first frame.
	greeted bool
	begun   startInfo
	exit    *exitStatus
	// failure is init's own account of why there is no program.
	failure string
	// lost is why the channel ended, wanted or not.
	lost error
	// output is the first error of the caller's writers, or of outputs.
	output  error
	outputs *outputReceiver
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
func (r *run) guest(ctx context.Context, spec machineSpec, initramfs *os.File) error {
	outputs, err := receiveOutputs(r.job.Outputs)
	if err != nil {
		return err
	}
	r.outputs = outputs
	s, err := startSupervisor(spec, initramfs)
	if err != nil {
		return errors.Join(err, outputs.close())
	}
	defer closeAll(s.lifeline, s.monitor)
	r.supervised = s
	var readers sync.WaitGroup
	readers.Go(func() {
		defer s.console.Close()
		r.readConsole(s.console)
	})
	marks := make(chan frameType, 8) // hello, started, failure, exit or broken
	readers.Go(func() {
		defer s.channel.Close()
		defer close(marks)
		r.readChannel(s.channel, marks)
	})
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		s.wait()
	}()
	r.cause = r.follow(ctx, marks, gone)
	if r.hangs() {
		r.fetchStacks()
	}
	s.lifeline.Close()
	<-gone
	for range marks { // a reader must not wait for follow, which has returned
	}
	readers.Wait()
	if err := outputs.close(); err != nil && r.output == nil && r.exit != nil {
		r.output = err
	}
	return r.conclude()
}

// follow waits through the phases of a guest, to its end and that of the
// channel; the cause is nil when the guest ended by itself.
func (r *run) follow(ctx context.Context, marks <-chan frameType, gone <-chan struct{}) (cause error) {
	last := time.Now()
	bootEnd := last.Add(r.job.BootTimeout)
	deadline := time.NewTimer(r.firstProgress())
	expired := errSilence
	defer deadline.Stop()
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
			case frameBroken:
				return errBroken
			case frameHello:
				deadline.Reset(time.Until(bootEnd))
				expired = errBootDeadline
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
				if !r.machine.powersOff() {
					r.lifeline.Close()
				}
			}
		}
	}
	if said {
		r.phaseUntil("power-off", last, ended)
	}
	return nil
}

// conclude turns what was seen into an outcome.
func (r *run) conclude() error {
	r.result.KernelLog = r.log.bytes()
	if err := r.supervised.failure(); err != nil {
		return err
	}
	if r.output != nil {
		return fmt.Errorf("deliver the program's output: %w", r.output)
	}
	if r.exit != nil {
		r.result.Outcome, r.result.ExitCode, r.result.Skipped = record.GuestFinished, r.exit.Code, r.exit.Skipped
		return nil
	}
	if r.failure != "" {
		return fmt.Errorf("init of the guest: %s", r.failure)
	}
	log := r.log.own()
	outcome, detail, crashed := findCrash(log)
	switch {
	case crashed:
		r.result.Outcome, r.result.Detail = outcome, detail
	case errors.Is(r.cause, errBroken):
		r.result.Outcome = record.GuestLost
		r.result.Detail = fmt.Sprintf("what the guest sent is not what was written: %v", r.lost)
	case errors.Is(r.cause, errBootDeadline), errors.Is(r.cause, errSilence):
		r.result.Outcome = record.GuestHangBoot
		r.result.Detail = fmt.Sprintf("the program did not start within %v; last line of the kernel log: %q",
			r.job.BootTimeout, lastLine(log))
	case errors.Is(r.cause, errRunDeadline):
		r.result.Outcome = record.GuestHangRun
		r.result.Detail = fmt.Sprintf("the program did not end within %v", r.job.RunTimeout)
	case r.cause != nil:
		return r.cause
	default:
		r.result.Outcome = record.GuestLost
		r.result.Detail = fmt.Sprintf("the guest ended (%s) without a final record: %v; last line of the kernel log: %q",
			r.ended(), r.lost, lastLine(log))
	}
	return nil
}

// hangs tells that a deadline came, other than that of a trial.
func (r *run) hangs() bool {
	return errors.Is(r.cause, errRunDeadline) || errors.Is(r.cause, errBootDeadline) ||
		errors.Is(r.cause, errSilence) && !r.accel.trial
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
		if err == nil {
			err = r.frame(t, payload)
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			r.lost = err
			return
		case err != nil:
			r.lost = err
			marks <- frameBroken
			_, _ = io.Copy(io.Discard, channel)
			return
		}
		switch t {
		case frameHello, frameStarted, frameFailure, frameExit:
			marks <- t
		}
	}
}

// frame takes one frame; the error says that it is none of ours.
func (r *run) frame(t frameType, payload []byte) error {
	switch t {
	case frameHello:
		if string(payload) != protocolVersion {
			return fmt.Errorf("read the guest's greeting: %w: %q", errCorrupt, payload)
		}
		r.greeted = true
	case frameStarted:
		if err := json.Unmarshal(payload, &r.begun); err != nil {
			return fmt.Errorf("read the start of the program: %w: %w", errCorrupt, err)
		}
	case frameStdout:
		r.deliver(r.job.Stdout, payload)
	case frameStderr:
		r.deliver(r.job.Stderr, payload)
	case frameRecord:
		if r.job.Records != nil {
			r.job.Records(payload)
		}
	case frameOutput:
		r.deliver(r.outputs, payload)
	case frameFailure:
		r.failure = string(payload)
	case frameExit:
		var status exitStatus
		if err := json.Unmarshal(payload, &status); err != nil {
			return fmt.Errorf("read the exit status: %w: %w", errCorrupt, err)
		}
		r.exit = &status
	default:
		return fmt.Errorf("read frame: %w: unknown type %d", errCorrupt, t)
	}
	return nil
}

func (r *run) deliver(w io.Writer, b []byte) {
	if w == nil || r.output != nil {
		return
	}
	if _, err := w.Write(b); err != nil {
		r.output = err
	}
}
