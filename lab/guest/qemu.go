// QEMU: any x86-64 kernel on an emulated PC. What is peculiar to it stands
// here: where it is found, its command line, how a hung guest is made to speak.

package guest

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// QEMU runs a kernel on an emulated PC, by KVM where that is proven to work,
// else by TCG, QEMU's own translator. It needs no root.
const QEMU Machine = "qemu"

// ErrNoQEMU tells that no QEMU is installed.
var ErrNoQEMU = errors.New("QEMU is not installed; install the Debian package qemu-system-x86")

// qemu is the machine of QEMU.
type qemu struct{}

// program finds the emulator on PATH.
func (qemu) program() (string, error) {
	program, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		return "", fmt.Errorf("find qemu-system-x86_64 on PATH: %w", ErrNoQEMU)
	}
	if program, err = filepath.Abs(program); err != nil {
		return "", fmt.Errorf("find qemu-system-x86_64: %w", err)
	}
	return program, nil
}

func (qemu) roomMiB(machineSpec) int { return 0 } // its memory has no file

// channel: the serial ports are in every kernel, but each byte costs an exit
// from the guest's code: under TCG 20 MiB take half a minute. A virtio port
// takes them in half a second, where the kernel has the modules.
func (qemu) channel() channelDevice {
	return channelDevice{
		Serial: "/dev/ttyS1", Port: "/dev/vport0p1", Modules: []string{"virtio_pci", "virtio_console"},
	}
}

func (qemu) bootTimeout() time.Duration { return QEMUBootTimeout }

// powersOff: a virtio port accepts bytes before the host has them, and cannot
// be asked when it has.
func (qemu) powersOff() bool { return false }

// process is the emulator with as little of a PC as a kernel boots on: every
// device costs time to probe. Both ends of the channel write into one pipe;
// init uses one of them.
func (qemu) process(spec machineSpec, _ string) process {
	k := spec.Kernel
	image := k.ELF
	if image == "" {
		image = k.Image
	}
	cpu := "host"
	if spec.Accelerator == TCG {
		// rdrand seeds the guest's random numbers at once; AES and carry-less
		// multiplication are instructions here, and hundreds without.
		cpu = "Westmere,rdrand=on"
	}
	channel := fmt.Sprintf("path=/proc/self/fd/%d", machineChannel)
	argv := []string{
		spec.Program, "-name", "pmtulab",
		"-M", "pc,vmport=off,hpet=off", "-accel", spec.Accelerator, "-cpu", cpu, "-smp", "1", "-m", fmt.Sprintf("%dM", spec.MemoryMiB),
		"-nodefaults", "-no-user-config", "-vga", "none", "-nic", "none", "-display", "none", "-no-reboot",
		"-chardev", fmt.Sprintf("socket,id=console,fd=%d", machineConsole), "-serial", "chardev:console",
		"-chardev", "file,id=channel," + channel, "-serial", "chardev:channel",
		"-chardev", "file,id=port," + channel, "-device", "virtio-serial-pci,max_ports=2",
		"-device", "virtserialport,chardev=port,nr=1",
		"-chardev", fmt.Sprintf("socket,id=monitor,fd=%d", machineMonitor), "-mon", "chardev=monitor,mode=control",
		"-kernel", image, "-initrd", fmt.Sprintf("/proc/self/fd/%d", machineInitramfs),
		"-append", strings.Join(append(qemuArgs(), k.Args...), " "),
	}
	return process{argv: argv, env: []string{"PATH=/usr/bin:/bin"}}
}

// qemuArgs are kernel parameters: those that a guest needs, then those that
// make it fast. Figures are for Linux 6.1 under TCG.
func qemuArgs() []string {
	return []string{
		"console=ttyS0", "rdinit=" + initPath,
		// Warnings belong into the kernel log; an oops or a panic must end the
		// guest. SysRq and NMI show the stacks of one that hangs.
		"loglevel=5", "oops=panic", "panic=-1", "sysrq_always_enabled", "unknown_nmi_panic",
		// Nobody measures the timer against another one that is emulated, too.
		"tsc=reliable", "no_timer_check", "random.trust_cpu=on",
		// The tests of the crypto algorithms: 160 ms. Patching for one
		// processor: 80 ms. Mitigations and random addresses serve nothing.
		"cryptomgr.notests=1", "noreplace-smp", "mitigations=off", "nokaslr",
	}
}

// stacks asks by SysRq, over a break on the serial line, for the tasks that
// are blocked and for what the processor does; then by NMI, which a processor
// with interrupts off takes as well, and which ends in a panic.
func (qemu) stacks(h hung) []func() error {
	m := monitor{conn: h.monitor}
	// A break that comes while the kernel writes is lost: one key per step.
	sysrq := func(key string) error {
		if err := m.execute("chardev-send-break", map[string]string{"id": "console"}); err != nil {
			return err
		}
		if _, err := h.console.Write([]byte(key)); err != nil {
			return fmt.Errorf("type SysRq %s: %w", key, err)
		}
		return nil
	}
	return []func() error{
		func() error { return errors.Join(m.connect(), sysrq("8")) }, // show messages of every level
		func() error { return sysrq("w") },
		func() error { return sysrq("l") },
		func() error { return m.execute("inject-nmi", nil) },
	}
}
