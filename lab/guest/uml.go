// User-Mode Linux: a Linux kernel that is an ordinary process. What is peculiar
// to it stands here: where it is found, its command line, its files.

package guest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// ErrNoUML tells that no User-Mode Linux is installed.
var ErrNoUML = errors.New("User-Mode Linux is not installed; install the Debian package user-mode-linux")

// umlModules is where Debian puts the modules of its User-Mode Linux.
const umlModules = "/usr/lib/uml/modules"

// FindUML finds the host's User-Mode Linux: linux.uml on PATH or in /usr/bin,
// with its modules. The error wraps ErrNoUML when there is none.
func FindUML() (Kernel, error) {
	image, err := exec.LookPath("linux.uml")
	if err != nil {
		if image, err = exec.LookPath("/usr/bin/linux.uml"); err != nil {
			return Kernel{}, fmt.Errorf("find linux.uml on PATH and in /usr/bin: %w", ErrNoUML)
		}
	}
	if image, err = filepath.Abs(image); err != nil {
		return Kernel{}, fmt.Errorf("find linux.uml: %w", err)
	}
	k := Kernel{Machine: UML, Image: image}
	dirs, err := filepath.Glob(filepath.Join(umlModules, "*"))
	if err != nil || len(dirs) == 0 {
		return k, fmt.Errorf("find modules of %s in %s: %w", image, umlModules, ErrNoUML)
	}
	// The package holds one version; a leftover of an older one sorts before.
	k.Modules = dirs[len(dirs)-1]
	k.Release = filepath.Base(k.Modules)
	return k, nil
}

// umlNeedless are initcalls that cost more than the rest of the boot and serve
// nothing here: RAID and btrfs measure how fast they would be, zswap and jfs
// look for modules and set up memory.
func umlNeedless() string {
	return strings.Join([]string{
		"raid6_select_algo", "calibrate_xor_blocks", "btrfs_init", "init_btrfs_fs", "init_zswap", "init_jfs_fs",
	}, ",")
}

// uml is the machine of User-Mode Linux.
type uml struct{}

func (uml) program() (string, error) { return "", nil }

// roomMiB: the guest's memory is a file in its private directory, unlinked
// once it is open.
func (uml) roomMiB(spec machineSpec) int { return spec.MemoryMiB }

func (uml) channel() channelDevice { return channelDevice{Serial: "/dev/ttyS0"} }

func (uml) bootTimeout() time.Duration { return DefaultBootTimeout }

func (uml) powersOff() bool { return true }

func (uml) process(spec machineSpec, dir string) process {
	argv := []string{
		spec.Kernel.Image,
		fmt.Sprintf("mem=%dM", spec.MemoryMiB),
		fmt.Sprintf("initrd=/proc/self/fd/%d", machineInitramfs),
		"rdinit=" + initPath,
		"con=null", fmt.Sprintf("con0=null,fd:%d", machineConsole),
		"ssl=null", fmt.Sprintf("ssl0=null,fd:%d", machineChannel),
		"uml_dir=" + dir, "umid=" + umlName,
		"initcall_blacklist=" + umlNeedless(),
		// 256 BSD-style terminals, each announced by a process: half a second.
		"pty.legacy_count=0", "cryptomgr.notests=1",
		// Warnings belong into the kernel log; a panic must end the process.
		"loglevel=5", "panic=-1", "noreboot",
	}
	// HOME keeps ~/.uml from being made.
	env := []string{"TMPDIR=" + dir, "HOME=" + dir, "PATH=/usr/bin:/bin"}
	if spec.Kernel.Libs != "" {
		env = append(env, "LD_LIBRARY_PATH="+spec.Kernel.Libs)
	}
	return process{
		argv: append(argv, spec.Kernel.Args...),
		env:  env,
		// The kernel takes the gap between its program and its heap for
		// memory, up to a random gigabyte that it has then to set up: no gap.
		fixedAddresses: true,
	}
}

// umlName is the guest's name below its private directory.
const umlName = "guest"

// stacks asks for the blocked tasks through the kernel's management socket.
func (uml) stacks(h hung) []func() error {
	sysrq := func(key string) func() error {
		return func() error { return mconsole(filepath.Join(h.dir, umlName, "mconsole"), "sysrq "+key) }
	}
	return []func() error{sysrq("8"), sysrq("w")} // 8: show messages of every level
}

// mconsole sends one command to a User-Mode Linux, as struct mconsole_request
// (arch/um/drivers/mconsole.h).
func mconsole(socket, command string) error {
	conn, err := net.Dial("unixgram", socket)
	if err != nil {
		return fmt.Errorf("connect to the management socket: %w", err)
	}
	defer conn.Close()
	request := binary.NativeEndian.AppendUint32(nil, 0xcafebabe)
	request = binary.NativeEndian.AppendUint32(request, 2) // version
	request = binary.NativeEndian.AppendUint32(request, uint32(len(command)))
	request = append(request, command...)
	if _, err := conn.Write(request); err != nil {
		return fmt.Errorf("send %q to the management socket: %w", command, err)
	}
	return nil
}
