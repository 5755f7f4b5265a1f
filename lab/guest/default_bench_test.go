//go:build linux && qemu

package guest

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/pmtulab/pmtulab/lab/kernel"
	"github.com/pmtulab/pmtulab/lab/record"
)

// From the command to the job's main: this package's way, and the same content
// as bzImage on QEMU's default machine, which is what one would write who has
// not thought about it. In turns, so that both meet the same host; the ratio is
// that of the medians.
func BenchmarkDefaultMachine(b *testing.B) {
	k, err := new(kernel.Cache).Resolve(b.Context(), "6.1")
	if err != nil {
		b.Fatal(err)
	}
	booted := bootable(k)
	job := Job{Args: []string{"true"}, Modules: []string{"veth", "ip_vs", "ipip"}}
	var own, floor []float64
	for b.Loop() {
		r, err := Run(b.Context(), booted, job)
		if err != nil || r.Outcome != record.GuestFinished || r.ExitCode != 0 {
			b.Fatalf("%v, %s: %s\n%s", err, r.Outcome, r.Detail, r.KernelLog)
		}
		total := record.Ms(0)
		for _, phase := range r.Phases {
			if slices.Contains([]string{"initramfs", "boot", "modules"}, phase.Name) {
				total += phase.Ms
			}
		}
		own = append(own, float64(total))
		floor = append(floor, defaultMachine(b, booted, job))
	}
	slices.Sort(own)
	slices.Sort(floor)
	middle := len(own) / 2
	b.ReportMetric(own[middle], "ours-ms")
	b.ReportMetric(floor[middle], "default-machine-ms")
	b.ReportMetric(floor[middle]/own[middle], "times-faster")
	b.ReportMetric(0, "ns/op") // the mean of both says nothing
}

// defaultMachine boots the job on QEMU's default machine, with the channel on
// its second serial line, and returns the ms until the job's main.
func defaultMachine(b *testing.B, k Kernel, job Job) float64 {
	b.Helper()
	began := time.Now()
	initramfs, err := buildInitramfs(k, channelDevice{Serial: "/dev/ttyS1"}, job)
	if err != nil {
		b.Fatal(err)
	}
	defer initramfs.Close()
	channel, write, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	defer channel.Close()
	cmd := exec.CommandContext(b.Context(), "qemu-system-x86_64",
		"-accel", TCG, "-m", fmt.Sprintf("%dM", DefaultMemoryMiB), "-display", "none", "-no-reboot",
		"-serial", "null", "-chardev", "file,id=channel,path=/proc/self/fd/3", "-serial", "chardev:channel",
		"-kernel", k.Image, "-initrd", "/proc/self/fd/4", "-append", "console=ttyS0 panic=-1 rdinit="+initPath)
	cmd.ExtraFiles = []*os.File{write, initramfs}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	_ = write.Close()
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	}()
	for r := newFrameReader(channel); ; {
		frame, _, err := r.read()
		if err != nil {
			b.Fatal(err)
		}
		if frame == frameStarted {
			return float64(record.Millis(time.Since(began)))
		}
	}
}
