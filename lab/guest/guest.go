// Package guest runs any program on another kernel: it packs the program, the
// modules that it wants and this binary as init into an initramfs, boots it,
// and says how it ended. A guest has no file system and no network in common
// with the host, so it can change nothing there.
//
// Whatever ends the calling process, SIGKILL included, a supervisor process
// ends the guest and removes its files: nothing is left a second later.
//
// # Why the program is a process of its own
//
// Starting a Go binary costs 50 to 150 ms in User-Mode Linux, nearly all of it
// page faults of package initialisation; collecting garbage or not makes no
// difference. Running the job inside init would save one start, at the price
// that a panic or os.Exit of the job is a panic of the kernel. From the
// command to the job's main it takes about half a second either way.
//
// A program that imports guest plays its roles first thing in main (or, for a
// test binary, in TestMain):
//
//	role.Play(guest.Roles()...)
package guest

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/role"
)

// Defaults of a Job.
const (
	DefaultMemoryMiB   = 256
	DefaultBootTimeout = 10 * time.Second // of User-Mode Linux; it takes 0.7 s
	QEMUBootTimeout    = 30 * time.Second // by TCG it takes 1.2 s, on a busy machine 7 s
)

// Machine is a way to run a kernel.
type Machine string

// UML is User-Mode Linux: the kernel is an ordinary process of the host. It
// needs neither root nor KVM.
const UML Machine = "uml"

// Kernel is a kernel that a Job can run on.
type Kernel struct {
	Machine Machine `json:"machine"`
	// Release is the kernel's uname -r, as far as known.
	Release string `json:"release"`
	// Image is the file that is booted: linux.uml, or a bzImage for QEMU.
	Image string `json:"image"`
	// ELF is Image decompressed on the host, for QEMU: a vmlinux with the note
	// that makes it bootable (PVH, XEN_ELFNOTE_PHYS32_ENTRY). Booting it saves the
	// guest the work. Empty: Image is booted.
	ELF string `json:"elf,omitempty"`
	// Modules is the directory of its modules, in any depth; empty: it has
	// none.
	Modules string `json:"modules"`
	// Accelerator is KVM, TCG or, empty, the best that works; for QEMU.
	Accelerator string `json:"accelerator,omitempty"`
	// Libs is the directory of shared libraries that a linux.uml of another
	// system needs; empty: those of this system.
	Libs string `json:"libs,omitempty"`
	// Args are further kernel parameters.
	Args []string `json:"args,omitempty"`

	// kvm is the device of KVM; default: /dev/kvm. Tests set it.
	kvm string
}

// Job is a program to run in a guest, and all it needs there. The program is
// root, its parent is process 1 and its standard input is /dev/null.
type Job struct {
	// Path is the program on the host, an absolute path or a name to look up
	// on PATH; default: Args[0]. The guest has it under the same path. The
	// running binary itself (os.Executable, or /proc/self/exe) costs no
	// second copy.
	Path string
	// Args is the argument vector, program name first; default: Path alone.
	Args []string
	// Env is the whole environment; nil means PATH, HOME and TMPDIR only.
	Env []string
	// Dir is the working directory; it is made when no file is packed below
	// it. Default: /.
	Dir string

	// Files are further files of the guest.
	Files []File
	// Programs are host programs that the job executes.
	Programs []Program
	// Modules are loaded before the program starts, with what they need;
	// names or aliases. A kernel without one is a *ModuleError.
	Modules []string
	// OptionalModules are loaded when the kernel has them.
	OptionalModules []string
	// OnDemand are packed only, and left to the kernel's own modprobe. Every
	// call of modprobe in a guest costs a quarter of a second; without
	// OnDemand it is switched off once Modules are loaded.
	OnDemand []string

	// Outputs come back to the host when the program has ended.
	Outputs []Output

	// MemoryMiB is the guest's memory; default: DefaultMemoryMiB.
	MemoryMiB int
	// BootTimeout ends at the program's start; default: DefaultBootTimeout, or
	// QEMUBootTimeout.
	BootTimeout time.Duration
	// RunTimeout bounds the program itself; 0 leaves that to the context.
	RunTimeout time.Duration

	// Stdout and Stderr receive what the program writes, byte for byte; nil
	// discards it. Run calls them from one goroutine.
	Stdout, Stderr io.Writer
	// Records receives what the program writes to the writer of Records, in
	// pieces that need not be those it wrote. The slice is valid during the
	// call only. Nil discards it.
	Records func([]byte)
	// Console receives the kernel log as it comes; nil keeps it for
	// Result.KernelLog alone. Run calls it from a goroutine of its own.
	Console io.Writer
}

// File is a file or, by a directory as Source, a tree of files.
type File struct {
	// Path is the absolute path in the guest.
	Path string
	// Source is the file or directory on the host; empty: Data is the content.
	Source string
	Data   []byte
	// Mode holds the permission bits; 0 keeps those of Source, or 0644.
	Mode fs.FileMode
}

// Program is an executable of the host, packed under its own path with its
// shared libraries.
type Program struct {
	// Path is absolute, or a name to look up on PATH and in the sbin
	// directories.
	Path string
	// Plugins are file name patterns (filepath.Match) of what it loads with
	// dlopen, such as the extensions of iptables.
	Plugins []string
}

// Result is how a guest ended.
type Result struct {
	// Outcome tells the program's end from the guest's.
	Outcome record.GuestOutcome
	// Detail is one line about any outcome but finished: the line of the
	// kernel log, the deadline, the reason.
	Detail string
	// ExitCode is the program's own, or 128+n when signal n killed it; it
	// holds for GuestFinished only and is -1 otherwise.
	ExitCode int
	// Skipped are files and directories of Job.Outputs that did not come back,
	// being neither, and why; at most 20.
	Skipped []string
	// Accelerator is what ran the guest's code.
	Accelerator Accelerator
	// Stacks are what a hung guest's tasks and processors did, in the kernel's
	// words, as far as it answered; KernelLog has them as well.
	Stacks []byte
	// KernelLog is what the kernel wrote to its console: the first and last
	// part when it is longer than 1 MiB.
	KernelLog []byte
	// Phases are initramfs, boot, modules, run and power-off, as far as the
	// guest came.
	Phases []record.Phase
}

// Roles are the parts that the binary plays for a guest: init, modprobe and
// supervisor.
func Roles() []role.Role {
	return []role.Role{
		{Name: "init", Main: initMain},
		{Name: "modprobe", Main: modprobeMain},
		{Name: supervisorRole, Main: supervisorMain},
	}
}

// recordsEnv names the descriptor of the record pipe in a job's environment.
const recordsEnv = "PMTULAB_RECORDS"

// Inside tells whether this process is the job of a guest, which has the machine
// for itself.
func Inside() bool { return os.Getenv(recordsEnv) != "" }

// Records is the writer whose bytes reach Job.Records on the host. ok is false
// when this process is not the job of a guest. The caller closes it.
func Records() (_ io.WriteCloser, ok bool) {
	var fd uintptr
	if _, err := fmt.Sscanf(os.Getenv(recordsEnv), "%d", &fd); err != nil || fd < 3 {
		return nil, false
	}
	return os.NewFile(fd, "records"), true
}

func (j Job) memoryMiB() int {
	if j.MemoryMiB == 0 {
		return DefaultMemoryMiB
	}
	return j.MemoryMiB
}

func (j Job) dir() string {
	if j.Dir == "" {
		return "/"
	}
	return j.Dir
}

// environ is Env, with PATH, HOME and TMPDIR when it is nil.
func (j Job) environ() []string {
	if j.Env == nil {
		return []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TMPDIR=/tmp"}
	}
	return slices.DeleteFunc(slices.Clone(j.Env), func(kv string) bool {
		return strings.HasPrefix(kv, recordsEnv+"=")
	})
}
