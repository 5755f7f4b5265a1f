// The supervisor is a process between the command and the guest. It owns all
// that a guest leaves on the host: its processes and its private directory.
// The command holds the writing end of a pipe, the lifeline; however the
// command ends, the kernel closes it, and the supervisor ends the guest.
//
// The other way round, the guest's main process dies with the supervisor
// (PR_SET_PDEATHSIG), and the command, which knows the guest's process group,
// ends the rest.

package guest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const supervisorRole = "supervisor"

// Descriptors that the supervisor inherits.
const (
	lifelineFd = 3 + iota
	consoleFd
	channelFd
	initramfsFd
	monitorFd
)

// supervisorReport is one line of the supervisor's standard output. Exactly
// one field is set.
type supervisorReport struct {
	// Dir is the private directory that is about to be made.
	Dir string `json:"dir,omitempty"`
	// Pid is the guest's main process and process group.
	Pid int `json:"pid,omitempty"`
	// Ended is how the main process ended; by then nothing of the guest is left.
	Ended string `json:"ended,omitempty"`
	// NoDir and Failed say why there is no guest.
	NoDir  *DirError `json:"no_dir,omitempty"`
	Failed string    `json:"failed,omitempty"`
}

func supervisorMain(args []string) int {
	// Pdeathsig means the death of the thread that started the process: this
	// one lives as long as the supervisor.
	runtime.LockOSThread()
	// Taken, not ignored: an ignored signal would be inherited by the guest.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	report := json.NewEncoder(os.Stdout)
	ended, err := supervise(args, report)
	if err != nil {
		var dir *DirError
		if errors.As(err, &dir) {
			_ = report.Encode(supervisorReport{NoDir: dir})
		} else {
			_ = report.Encode(supervisorReport{Failed: err.Error()})
		}
		return 1
	}
	_ = report.Encode(supervisorReport{Ended: ended})
	return 0
}

// supervise starts the guest, waits for its end or that of the lifeline, and
// leaves neither a process nor a file.
func supervise(args []string, report *json.Encoder) (ended string, err error) {
	var spec machineSpec
	if len(args) != 1 {
		return "", errors.New("start the supervisor: it takes one argument, made by guest.Run")
	}
	if err := json.Unmarshal([]byte(args[0]), &spec); err != nil {
		return "", fmt.Errorf("read the supervisor's argument: %w", err)
	}
	lifeline := os.NewFile(lifelineFd, "lifeline")
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return "", fmt.Errorf("become the parent of orphans: %w", err)
	}
	// A guest that panics aborts; nobody wants 256 MiB of core.
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return "", fmt.Errorf("switch core dumps off: %w", err)
	}
	m, err := machineOf(spec.Kernel)
	if err != nil {
		return "", err
	}
	dir, err := makePrivateDir(m.roomMiB(spec), report)
	if err != nil {
		return "", err
	}
	defer func() {
		if rmErr := os.RemoveAll(dir); rmErr != nil && err == nil {
			err = fmt.Errorf("remove the private directory: %w", rmErr)
		}
	}()
	pid, err := startProcess(m.process(spec, dir), dir)
	if err != nil {
		return "", err
	}
	_ = report.Encode(supervisorReport{Pid: pid})
	// The read ends when the command does, or closes its end.
	go func() {
		_, _ = io.Copy(io.Discard, lifeline)
		killDescendants(pid)
	}()
	return reapAll(pid), nil
}

// makePrivateDir makes the directory of a guest that needs room for roomMiB;
// it is reported before it is there. Without a need there is none.
func makePrivateDir(roomMiB int, report *json.Encoder) (string, error) {
	if roomMiB == 0 {
		return "", nil
	}
	parent, err := choosePrivateDir(dirCandidates(), roomMiB)
	if err != nil {
		return "", err
	}
	dir := privateDirName(parent)
	_ = report.Encode(supervisorReport{Dir: dir})
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the private directory: %w", err)
	}
	return dir, nil
}

// addrNoRandomize is ADDR_NO_RANDOMIZE of personality(2).
const addrNoRandomize = 0x0040000

// setPersonality sets the execution domain of this thread and of all that it
// starts.
func setPersonality(persona uintptr) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_PERSONALITY, persona, 0, 0); errno != 0 {
		return fmt.Errorf("switch address randomisation off: %w", errno)
	}
	return nil
}

// startProcess starts the guest's main process in a session of its own and
// closes this process's copies of its descriptors.
func startProcess(p process, dir string) (int, error) {
	console := os.NewFile(consoleFd, "console")
	defer console.Close()
	others := make([]*os.File, machineMonitor-2)
	for fd, inherited := range map[int]uintptr{
		machineChannel: channelFd, machineInitramfs: initramfsFd, machineMonitor: monitorFd,
	} {
		f := os.NewFile(inherited, "guest")
		defer f.Close()
		others[fd-3] = f
	}
	if p.fixedAddresses {
		if err := setPersonality(addrNoRandomize); err != nil {
			return 0, err
		}
	}
	cmd := exec.Cmd{
		Path: p.argv[0], Args: p.argv, Env: p.env, Dir: dir,
		Stdout: console, Stderr: console, ExtraFiles: others,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start %s: %w", p.argv[0], err)
	}
	return cmd.Process.Pid, nil
}

// reapAll waits for the guest's main process and then kills and reaps all its
// descendants, which the kernel gave to this process.
func reapAll(pid int) (ended string) {
	options := 0
	for {
		var ws syscall.WaitStatus
		got, err := syscall.Wait4(-1, &ws, options, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil: // ECHILD: none left
			return ended
		case got == 0:
			// Not all are dead yet. Listing all processes takes longer than
			// most of them live, so it is not done for each.
			killDescendants(pid)
			options = 0
		case got == pid:
			ended = "exit status " + strconv.Itoa(ws.ExitStatus())
			if ws.Signaled() {
				ended = "killed: " + ws.Signal().String()
			}
			killDescendants(pid)
			fallthrough
		case ended != "":
			options = syscall.WNOHANG
		}
	}
}

// killDescendants kills a process group and every descendant of this process
// outside of it. The signal reaches a whole group at once: User-Mode Linux
// traces its guest's processes, and none may run on when the tracer is gone.
func killDescendants(group int) {
	_ = syscall.Kill(-group, syscall.SIGKILL)
	parents := processParents()
	self := os.Getpid()
	for pid := range parents {
		for p := parents[pid]; p > 1; p = parents[p] {
			if p == self {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				break
			}
		}
	}
}

// processParents maps every process that can be seen to its parent.
func processParents() map[int]int {
	parents := map[int]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		f, err := os.Open(file)
		if err != nil {
			continue // it ended
		}
		line, _ := bufio.NewReader(f).ReadString('\n')
		f.Close()
		// PID (COMM) STATE PPID; COMM may hold anything (proc_pid_stat(5)).
		head, rest, _ := strings.Cut(line, " ")
		fields := strings.Fields(rest[strings.LastIndex(rest, ")")+1:])
		pid, err := strconv.Atoi(head)
		if err != nil || len(fields) < 2 {
			continue
		}
		if ppid, err := strconv.Atoi(fields[1]); err == nil {
			parents[pid] = ppid
		}
	}
	return parents
}
