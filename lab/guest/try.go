// What running a guest takes, each part tried without a boot.

package guest

import (
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
)

// TryTrace starts the program of a User-Mode Linux under ptrace(2), by which it
// runs its guest's processes, and ends it before its first instruction. A
// container or the sysctl kernel.yama.ptrace_scope may forbid that.
func (k Kernel) TryTrace() error {
	done := make(chan error)
	go func() {
		// The thread that starts a traced process is the one that traces it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		cmd := exec.Cmd{Path: k.Image, SysProcAttr: &syscall.SysProcAttr{Ptrace: true}}
		err := cmd.Start()
		if err == nil {
			err = cmd.Process.Kill()
			_ = cmd.Wait() // it was killed
		}
		done <- err
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("start %s under ptrace: %w", k.Image, err)
	}
	return nil
}

// TryModules tells whether k has the modules that a Job wants, with all they
// need; the error is a *ModuleError for each that is missing, joined.
func (k Kernel) TryModules(names []string) error {
	tree, err := openModuleTree(k.Modules)
	if err != nil {
		return err
	}
	_, err = tree.closure(names, nil)
	return err
}

// TryMemory finds the directory in which a guest's memory will live; the error
// is a *DirError when none has the room for it.
func TryMemory(mib int) (dir string, err error) {
	return choosePrivateDir(dirCandidates(), mib)
}

// TryQEMU finds the emulator; the error is ErrNoQEMU when there is none.
func TryQEMU() (program string, err error) { return qemu{}.program() }

// TryAccelerator says what a guest in QEMU would run by, as far as it is known
// without a boot.
func TryAccelerator() (Accelerator, error) {
	program, err := TryQEMU()
	if err != nil {
		return Accelerator{}, err
	}
	choice, err := chooseAccelerator(machineSpec{Program: program}, userFindings(), openKVM("/dev/kvm"))
	if choice.trial {
		choice.Reason = "not tried yet; a boot will tell"
	}
	return choice.Accelerator, err
}
