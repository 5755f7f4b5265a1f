//go:build linux && qemu

package guest

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/pmtulab/pmtulab/lab/kernel"
	"github.com/pmtulab/pmtulab/lab/record"
)

// defaultMachine is QEMU as it comes, with the bzImage: what one would write
// who has not thought about it. The channel is the second serial line.
type defaultMachine struct{ qemu }

func (defaultMachine) process(spec machineSpec, _ string) process {
	return process{
		argv: []string{
			spec.Program, "-accel", TCG, "-m", fmt.Sprintf("%dM", spec.MemoryMiB), "-display", "none", "-no-reboot",
			"-chardev", fmt.Sprintf("socket,id=console,fd=%d", machineConsole), "-serial", "chardev:console",
			"-chardev", fmt.Sprintf("file,id=channel,path=/proc/self/fd/%d", machineChannel), "-serial", "chardev:channel",
			"-chardev", fmt.Sprintf("socket,id=monitor,fd=%d", machineMonitor), "-mon", "chardev=monitor,mode=control",
			"-kernel", spec.Kernel.Image, "-initrd", fmt.Sprintf("/proc/self/fd/%d", machineInitramfs),
			"-append", "console=ttyS0 panic=-1 rdinit=" + initPath,
		},
		env: []string{"PATH=/usr/bin:/bin"},
	}
}

func (defaultMachine) channel() channelDevice { return channelDevice{Serial: "/dev/ttyS1"} }

// From the command to the job's main: this package's way, and the same content
// as bzImage on QEMU's default machine; in turns, so that both meet the same
// machine. The ratio is that of the medians.
func BenchmarkDefaultMachine(b *testing.B) {
	k, err := new(kernel.Cache).Resolve(b.Context(), "6.1")
	if err != nil {
		b.Fatal(err)
	}
	booted := Kernel{Machine: QEMU, Release: k.Release, Image: k.Image, ELF: k.ELF, Modules: k.Modules, Accelerator: TCG}
	var own, plain []float64
	for b.Loop() {
		own = append(own, toMain(b, qemu{}, booted))
		plain = append(plain, toMain(b, defaultMachine{}, booted))
	}
	slices.Sort(own)
	slices.Sort(plain)
	b.ReportMetric(own[len(own)/2], "ours-ms")
	b.ReportMetric(plain[len(plain)/2], "floor-ms")
	b.ReportMetric(plain[len(plain)/2]/own[len(own)/2], "times-faster")
}

// toMain is the time from the command to the job's main, in ms.
func toMain(b *testing.B, m machine, k Kernel) float64 {
	b.Helper()
	r, err := boot(context.Background(), m, k, Job{Args: []string{"true"}, Modules: []string{"veth", "ip_vs", "ipip"}})
	if err != nil || r.Outcome != record.GuestFinished || r.ExitCode != 0 {
		b.Fatalf("%v, %s: %s\n%s", err, r.Outcome, r.Detail, r.KernelLog)
	}
	total := record.Ms(0)
	for _, phase := range r.Phases {
		if slices.Contains([]string{"initramfs", "boot", "modules"}, phase.Name) {
			total += phase.Ms
		}
	}
	return float64(total)
}
