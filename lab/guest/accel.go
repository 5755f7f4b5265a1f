// Acceleration: whether KVM works is not seen by looking. A host can have a
// /dev/kvm that opens and makes machines, and then QEMU aborts, or the guest
// never says a word. So KVM is used only after a guest has booted with it, and
// what was found is remembered for as long as it can hold.

package guest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Names of accelerators.
const (
	// AutoAccelerator, the zero value: KVM where a boot has proven it, else TCG.
	AutoAccelerator = ""
	// KVM runs the guest's code on the processor; a guest where it does not
	// work is an error.
	KVM = "kvm"
	// TCG is QEMU's translator; it works everywhere.
	TCG = "tcg"
	// NoAccelerator is what User-Mode Linux has.
	NoAccelerator = "none"
)

// Accelerator is what ran the guest's code, and why it was that.
type Accelerator struct {
	Name   string
	Reason string
}

func (a Accelerator) String() string { return a.Name + ": " + a.Reason }

// firstProgress is how long init may take to send its first frame with an
// accelerator that is on trial. With KVM it takes half a second.
const firstProgress = 5 * time.Second

// proven is the reason for KVM.
const proven = "proven by a boot"

// acceleration is the decision for one boot.
type acceleration struct {
	Accelerator
	// trial tells that nobody knows whether it works.
	trial bool
}

// chooseAccelerator decides for one boot of spec. unusable is why KVM cannot even
// be tried, nil when it can.
func chooseAccelerator(spec machineSpec, memory findings, unusable error) (acceleration, error) {
	use := func(name, reason string, trial bool) (acceleration, error) {
		return acceleration{Accelerator{name, reason}, trial}, nil
	}
	if spec.Program == "" {
		return use(NoAccelerator, "User-Mode Linux is a process of the host", false)
	}
	asked := spec.Kernel.Accelerator
	known, ok := memory.recall(spec.Program)
	switch {
	case asked == TCG:
		return use(TCG, "asked for", false)
	case asked == KVM && unusable != nil:
		return acceleration{}, fmt.Errorf("use KVM as asked for: %w; leave the choice to auto, or ask for tcg", unusable)
	case asked == KVM && ok && known.Usable, asked == AutoAccelerator && unusable == nil && ok && known.Usable:
		return use(KVM, proven, false)
	case asked == KVM:
		return use(KVM, proven, true)
	case asked != AutoAccelerator:
		return acceleration{}, fmt.Errorf("accelerator %q is not known; it is kvm or tcg, or empty for the best that works", asked)
	case unusable != nil:
		return use(TCG, unusable.Error(), false)
	case ok:
		return use(TCG, known.Reason, false)
	default:
		return use(KVM, proven, true)
	}
}

// accelerated boots with the accelerator that is best for spec. In a trial that
// fails nothing of the job has run: it runs then, by TCG. The run is nil when
// there was none.
func accelerated(ctx context.Context, spec machineSpec, boot func(acceleration) (*run, error)) (*run, error) {
	memory := userFindings()
	choice, err := chooseAccelerator(spec, memory, openKVM(cmp.Or(spec.Kernel.kvm, "/dev/kvm")))
	if err != nil {
		return nil, err
	}
	began := time.Now()
	r, err := boot(choice)
	switch {
	case !choice.trial || ctx.Err() != nil || r.supervised == nil:
		return r, err
	case r.greeted:
		memory.remember(spec.Program, finding{Usable: true, Reason: proven})
		return r, err
	case spec.Kernel.Accelerator == KVM:
		return r, fmt.Errorf("boot with KVM as asked for: %s; leave the choice to auto, or ask for tcg", r.silence())
	}
	trial := r
	trial.phase("kvm trial", began)
	r, err = boot(acceleration{Accelerator: Accelerator{TCG, trial.silence()}})
	r.result.Phases = slices.Concat(trial.result.Phases, r.result.Phases)
	if r.greeted { // else the fault may be the kernel's
		memory.remember(spec.Program, finding{Reason: r.accel.Reason})
	}
	return r, err
}

// silence says how a trial failed.
func (r *run) silence() string {
	failed := fmt.Sprintf("qemu with kvm ended (%s)", r.ended())
	if errors.Is(r.cause, errSilence) {
		failed = fmt.Sprintf("kvm gave no output for %.1f s", r.firstProgress().Seconds())
	}
	if log := lastLine(r.log.bytes()); log != "" {
		failed += ": " + log
	}
	return failed
}

// firstProgress is how long init may take to send its first frame.
func (r *run) firstProgress() time.Duration {
	if r.accel.trial {
		return min(firstProgress, r.job.BootTimeout)
	}
	return r.job.BootTimeout
}

// openKVM tells why KVM, whose device is given, cannot even be tried.
func openKVM(device string) error {
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case err == nil:
		return unix.Close(fd) //nolint:wrapcheck // never fails for what was just opened
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("no permission to open %s", device)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no %s", device)
	default:
		return fmt.Errorf("%s does not open: %w", device, err)
	}
}
