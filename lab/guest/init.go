// Process 1 of a guest: mount, load modules, run the program, send what it
// wrote, say how it ended, power off. Only the final frame is success; when
// anything goes wrong before, its text goes out instead.

package guest

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab/wait"
)

// startInfo is what init tells when the program starts.
type startInfo struct {
	// Modules is how long they took to load. The guest's own clock tells: the
	// serial line delivers frames in batches.
	Modules time.Duration `json:"modules"`
}

// exitStatus is how the program ended.
type exitStatus struct {
	Code int `json:"code"` // 128+n for signal n
	// Skipped are Result.Skipped.
	Skipped []string `json:"skipped,omitempty"`
}

// portTimeout is how long a virtio port may take to appear once its driver is
// there; under TCG on a busy machine it takes 20 ms.
const portTimeout = time.Second

// hostTimeout is how long the host may take to end a guest that has said all
// and does not know whether it was heard.
const hostTimeout = 5 * time.Second

// maxSkipped bounds what an exit status tells of outputs.
const maxSkipped = 20

func initMain([]string) int {
	debug.SetGCPercent(-1) // short-lived and small; a collection costs page faults
	order, channel, err := initChannel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "pmtulab init:", err) // the console: all there is
		powerOff()
	}
	frames := newFrameWriter(channel)
	if err := initRun(frames, order); err != nil {
		text := err.Error()
		_ = frames.write(frameFailure, []byte(text[:min(len(text), maxPayload)]))
	}
	// All that was written must be on its way before the power goes.
	if err := unix.IoctlSetInt(int(channel.Fd()), unix.TCSBRK, 1); err != nil {
		_ = wait.For(context.Background(), hostTimeout) // no terminal
	}
	powerOff()
	return 1
}

func powerOff() {
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

// initChannel reads what to do, makes /dev, and opens the channel.
func initChannel() (bootOrder, *os.File, error) {
	order, err := readBootOrder()
	if err != nil {
		return order, nil, err
	}
	if err := unix.Mount("dev", "/dev", "devtmpfs", 0, ""); err != nil {
		return order, nil, fmt.Errorf("mount /dev: %w", err)
	}
	if order.Channel.Port != "" {
		channel, err := openPort(order.Channel)
		if err == nil {
			return order, channel, nil
		}
		fmt.Fprintln(os.Stderr, "pmtulab init: the serial line must do:", err)
	}
	channel, err := openSerial(order.Channel.Serial)
	return order, channel, err
}

// openPort opens a virtio port, which appears some time after its driver. A
// blocking descriptor: Go's poller loses the events of a port.
func openPort(device channelDevice) (*os.File, error) {
	for _, file := range device.Modules {
		if err := loadModule(file); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), portTimeout)
	defer cancel()
	var fd int
	err := wait.Until(ctx, "the channel's port", time.Millisecond, func() (err error) {
		fd, err = unix.Open(device.Port, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		return err //nolint:wrapcheck // wrapped by Until
	})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", device.Port, err)
	}
	return os.NewFile(uintptr(fd), device.Port), nil
}

// openSerial opens a serial line as a channel of bytes.
func openSerial(device string) (*os.File, error) {
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", device, err)
	}
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("read the settings of %s: %w", device, err)
	}
	// cfmakeraw(3): no byte is changed, none is special.
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return nil, fmt.Errorf("set %s to raw: %w", device, err)
	}
	return os.NewFile(uintptr(fd), device), nil
}

// initRun is the life of the guest, from the first frame to the last.
func initRun(frames *frameWriter, order bootOrder) error {
	if err := frames.write(frameHello, []byte(protocolVersion)); err != nil {
		return err
	}
	if err := initMount(); err != nil {
		return err
	}
	if err := initRandom(); err != nil {
		return err
	}
	if err := initLoopback(); err != nil {
		return err
	}
	if err := initWarnings(); err != nil {
		return err
	}
	before := time.Now()
	if err := loadModules(order); err != nil {
		return err
	}
	return runJob(frames, order, startInfo{Modules: time.Since(before)})
}

// seedParameter is the kernel parameter that carries 64 bytes from the host's
// random numbers, in hexadecimal. It is no part of the initramfs, which is the
// same for the same job.
const seedParameter = "pmtulab.seed="

// initRandom gives the kernel the host's random bytes, and credit for them
// (random(4)): a User-Mode Linux of before 5.18 has none for ten seconds.
func initRandom() error {
	const addEntropy = 0x40085203 // RNDADDENTROPY
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return fmt.Errorf("seed the random numbers: %w", err)
	}
	_, text, _ := strings.Cut(string(line), seedParameter)
	text, _, _ = strings.Cut(strings.TrimSpace(text), " ")
	seed, err := hex.DecodeString(text)
	if err != nil {
		return fmt.Errorf("seed the random numbers: %w", err)
	}
	f, err := os.OpenFile("/dev/random", os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("seed the random numbers: %w", err)
	}
	defer f.Close()
	// struct rand_pool_info: bits, bytes, and the bytes.
	pool := binary.NativeEndian.AppendUint32(nil, uint32(8*len(seed)))
	pool = binary.NativeEndian.AppendUint32(pool, uint32(len(seed)))
	pool = append(pool, seed...)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), addEntropy, uintptr(unsafe.Pointer(&pool[0]))); errno != 0 {
		return fmt.Errorf("seed the random numbers: %w", errno)
	}
	return nil
}

// initMount makes the file systems that every program expects. /tmp, /run and
// /root stay on the root file system, which is memory as well: files may have
// been packed there.
func initMount() error {
	for _, m := range []struct {
		source, target, fstype string
		flags                  uintptr
		data                   string
	}{
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"sysfs", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "ptmxmode=0666,mode=0620"},
		{"shm", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	} {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return fmt.Errorf("make %s: %w", m.target, err)
		}
		if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	for name, target := range map[string]string{
		"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0",
		"/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(target, name); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("make %s: %w", name, err)
		}
	}
	if err := unix.Chmod("/tmp", 0o1777); err != nil {
		return fmt.Errorf("open /tmp to all: %w", err)
	}
	if err := unix.Sethostname([]byte("pmtulab")); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	return nil
}

// initLoopback sets lo up, as every machine has it when programs start.
func initLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

// initWarnings makes a WARN of the kernel the end of the guest from now on:
// nobody could trust what such a kernel shows. One of the boot is about hardware.
func initWarnings() error {
	if err := os.WriteFile("/proc/sys/kernel/panic_on_warn", []byte("1\n"), 0); err != nil {
		return fmt.Errorf("let the kernel panic when it warns: %w", err)
	}
	return nil
}

func readBootOrder() (bootOrder, error) {
	var order bootOrder
	b, err := os.ReadFile(jobPath)
	if err != nil {
		return order, fmt.Errorf("read the job: %w", err)
	}
	if err := json.Unmarshal(b, &order); err != nil {
		return order, fmt.Errorf("read the job: %w", err)
	}
	return order, nil
}

// runJob runs the program and reports its end. Output frames all precede the
// exit frame.
func runJob(frames *frameWriter, order bootOrder, info startInfo) error {
	if err := os.Chdir(order.Dir); err != nil {
		return fmt.Errorf("go to the working directory: %w", err)
	}
	if err := prepareOutputs(order.Outputs); err != nil {
		return err
	}
	streams, children, err := outputPipes()
	if err != nil {
		return err
	}
	b, err := json.Marshal(info)
	if err != nil {
		return fmt.Errorf("encode the start: %w", err)
	}
	if err := frames.write(frameStarted, b); err != nil {
		return err
	}
	cmd := exec.Cmd{
		Path: order.Path, Args: order.Args, Dir: order.Dir,
		Env:    append(order.Env, recordsEnv+"=3"),
		Stdout: children[0], Stderr: children[1], ExtraFiles: children[2:],
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the program: %w", err)
	}
	for _, f := range children {
		f.Close()
	}
	var pumps sync.WaitGroup
	pumpErrs := make([]error, len(streams))
	for i, s := range streams {
		pumps.Go(func() { pumpErrs[i] = pump(frames, s.frame, s.r) })
	}
	status, err := reap(cmd.Process.Pid)
	if err != nil {
		return err
	}
	// Processes that the program left behind may hold its pipes; they end
	// with it, as they would with a container.
	_ = unix.Kill(-1, unix.SIGKILL)
	pumps.Wait()
	if err := errors.Join(pumpErrs...); err != nil {
		return err
	}
	if status.Skipped, err = sendOutputs(frames, order.Outputs); err != nil {
		return err
	}
	status.Skipped = status.Skipped[:min(len(status.Skipped), maxSkipped)]
	b, err = json.Marshal(status)
	if err != nil {
		return fmt.Errorf("encode the exit status: %w", err)
	}
	return frames.write(frameExit, b)
}

// stream is the reading end of one of the program's pipes.
type stream struct {
	frame frameType
	r     *os.File
}

// outputPipes makes the pipes for stdout, stderr and records.
func outputPipes() (streams []stream, children []*os.File, err error) {
	for _, t := range []frameType{frameStdout, frameStderr, frameRecord} {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, nil, fmt.Errorf("make the program's pipes: %w", err)
		}
		streams = append(streams, stream{t, r})
		children = append(children, w)
	}
	return streams, children, nil
}

// pump sends all of r in frames of one type.
func pump(frames *frameWriter, t frameType, r io.Reader) error {
	buf := make([]byte, maxPayload)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if err := frames.write(t, buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the program's output: %w", err)
		}
	}
}

// reap waits for the program and, as process 1 must, for every orphan that
// ends before it.
func reap(program int) (exitStatus, error) {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return exitStatus{}, fmt.Errorf("wait for the program: %w", err)
		case pid != program:
		case ws.Signaled():
			return exitStatus{Code: 128 + int(ws.Signal())}, nil
		case ws.Exited():
			return exitStatus{Code: ws.ExitStatus()}, nil
		}
	}
}
