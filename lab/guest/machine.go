// A machine is the mechanism of one kind of guest: how the kernel is started,
// on which device init finds the channel, how a hung kernel is made to speak.
// The life of a guest (run.go) and its supervisor are the same for all kinds.

package guest

import (
	"fmt"
	"io"
	"os"
	"time"
)

// machine is what makes a kind of guest different from the others.
type machine interface {
	// program is the emulator on this host, empty when the kernel is one.
	program() (string, error)
	// process boots the kernel. dir is the guest's private directory, empty
	// when roomMiB is 0.
	process(spec machineSpec, dir string) process
	// roomMiB is the room that its private directory must have; 0 when it
	// needs no directory.
	roomMiB(spec machineSpec) int
	// channel is where init finds the channel.
	channel() channelDevice
	// bootTimeout is how long a boot may take that nobody has set a limit for.
	bootTimeout() time.Duration
	// powersOff tells that the guest ends by itself once it has said all.
	// Others are ended when the last frame has come.
	powersOff() bool
	// stacks are the steps that make a hung guest write what its tasks and
	// processors do to its console. The console is waited for after each.
	stacks(h hung) []func() error
}

// process is a process of the host that boots a kernel. Its descriptors are
// given: 0 is /dev/null, 1 and 2 are the console, the others have the names
// below.
type process struct {
	argv, env []string
	// fixedAddresses switches the randomisation of its addresses off.
	fixedAddresses bool
}

// Descriptors of a process.
const (
	machineConsole   = 1 // a stream socket, so that the console has input
	machineChannel   = 3 // the writing end of a pipe
	machineInitramfs = 4 // a file to open again by /proc/self/fd
	machineMonitor   = 5 // a stream socket, for what controls the machine
)

// hung is the host's hold on a guest that does not go on.
type hung struct {
	// console is the guest's keyboard, so to speak.
	console io.Writer
	// monitor is the other end of machineMonitor.
	monitor *os.File
	// dir is the private directory.
	dir string
}

// channelDevice says how init opens the channel: by port when the kernel has
// it, else by the serial line.
type channelDevice struct {
	Serial string `json:"serial"`
	Port   string `json:"port,omitempty"`
	// Modules are what Port needs: names for the packer, files for init.
	Modules []string `json:"modules,omitempty"`
}

// machineSpec tells the supervisor what to boot, as JSON.
type machineSpec struct {
	Kernel    Kernel `json:"kernel"`
	MemoryMiB int    `json:"memory_mib"`
	// Program is the emulator, by its path.
	Program     string `json:"program,omitempty"`
	Accelerator string `json:"accelerator,omitempty"`
}

// machineOf is the machine that runs k.
func machineOf(k Kernel) (machine, error) {
	switch k.Machine {
	case UML:
		return uml{}, nil
	case QEMU:
		return qemu{}, nil
	default:
		return nil, fmt.Errorf("machine %q is not known; use a kernel of FindUML, or name one for QEMU", k.Machine)
	}
}
