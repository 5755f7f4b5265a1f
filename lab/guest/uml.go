// User-Mode Linux: a Linux kernel that is an ordinary process. What is peculiar
// to it stands here: where it is found, its command line, its files.

package guest

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
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

// umlCommand is the process that boots k. Its descriptors: 1 console,
// 3 channel, 4 initramfs. dir is private to the guest.
func umlCommand(k Kernel, memoryMiB int, dir string) (argv, env []string) {
	argv = []string{
		k.Image,
		fmt.Sprintf("mem=%dM", memoryMiB),
		"initrd=/proc/self/fd/4",
		"rdinit=" + initPath,
		"con=null", "con0=null,fd:1", "ssl=null", "ssl0=null,fd:3",
		"uml_dir=" + dir, "umid=guest",
		"initcall_blacklist=" + umlNeedless(),
		// 256 BSD-style terminals, each announced by a process: half a second.
		"pty.legacy_count=0", "cryptomgr.notests=1",
		// Warnings belong into the kernel log; a panic must end the process.
		"loglevel=5", "panic=-1", "noreboot",
	}
	argv = append(argv, k.Args...)
	// The guest's memory is a file in TMPDIR, unlinked once it is open; HOME
	// keeps ~/.uml from being made.
	return argv, []string{"TMPDIR=" + dir, "HOME=" + dir, "PATH=/usr/bin:/bin"}
}
