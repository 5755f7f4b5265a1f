//go:build linux && qemu

// What only QEMU has.

package guest_test

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab/guest"
	"github.com/pmtulab/pmtulab/lab/kernel"
	"github.com/pmtulab/pmtulab/lab/record"
)

func init() { kernels["qemu"] = qemuKernel }

// qemuKernel is a kernel of the archive, in the user's cache of kernels. It runs
// by TCG: whether KVM works is another matter, with tests of its own.
func qemuKernel() (guest.Kernel, error) {
	k, err := new(kernel.Cache).Resolve(context.Background(), "6.1")
	return guest.Kernel{
		Machine: guest.QEMU, Release: k.Release, Image: k.Image, ELF: k.ELF, Modules: k.Modules, Accelerator: guest.TCG,
	}, err
}

// What the machines have in common is in TestOutcomes.
func TestQEMUOutcomes(t *testing.T) {
	asleep := guest.Job{Args: []string{"sleep"}}
	broken := self("exit", "0")
	broken.Modules = []string{"veth"}
	oops, warning := brokenModules(t, "veth", false), brokenModules(t, "veth", true)
	for _, e := range []ending{
		{
			name: "hang at boot", job: asleep, boot: 5 * time.Second, args: []string{"rdinit=" + must(exec.LookPath("sleep")), "--", "1000"},
			outcome: record.GuestHangBoot, detail: "did not start within 5s", stacks: "NMI: Not continuing",
		},
		{name: "oops", job: broken, modules: oops, outcome: record.GuestOops, detail: "invalid opcode: 0000 [#1]"},
		{name: "warning", job: broken, modules: warning, outcome: record.GuestOops, detail: "WARNING: CPU: 0 PID: 1 at "},
	} {
		t.Run(e.name, func(t *testing.T) { e.test(t, must(qemuKernel())) })
	}
}

// brokenModules is a directory with the modules of the channel, and with one
// whose init function runs into ud2. That is no valid instruction, or, where the
// module's table of bugs says so, the place of a WARN.
func brokenModules(t *testing.T, name string, warning bool) string {
	t.Helper()
	broken := t.TempDir()
	err := filepath.WalkDir(must(qemuKernel()).Modules, func(file string, d fs.DirEntry, err error) error {
		module := strings.HasPrefix(d.Name(), "virtio") || d.Name() == name+".ko" || strings.HasPrefix(d.Name(), "modules.")
		if err != nil || d.IsDir() || !module {
			return err
		}
		b := must(os.ReadFile(file))
		if d.Name() == name+".ko" {
			b = breakModule(b, warning)
		}
		return os.WriteFile(filepath.Join(broken, d.Name()), b, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	return broken
}

// breakModule puts ud2 and ret behind the call of ftrace with which an init
// function begins, and on request says in the table's first entry that a WARN is
// there.
func breakModule(b []byte, warning bool) []byte {
	const afterCall = 5
	f := must(elf.NewFile(bytes.NewReader(b)))
	for i, s := range must(f.Symbols()) {
		if s.Name != "init_module" {
			continue
		}
		copy(b[f.Sections[s.Section].Offset+s.Value+afterCall:], "\x0f\x0b\xc3")
		if warning {
			address := b[f.Section(".rela__bug_table").Offset:] // struct elf64_rela
			binary.LittleEndian.PutUint64(address[8:], elf.R_INFO(uint32(i+1), uint32(elf.R_X86_64_PC32)))
			binary.LittleEndian.PutUint64(address[16:], afterCall)
			entry := b[f.Section("__bug_table").Offset:] // struct bug_entry
			binary.LittleEndian.PutUint16(entry[10:], 1) // BUGFLAG_WARNING
		}
	}
	return unsigned(b)
}

// unsigned cuts off a module's signature, which ends with struct
// module_signature and a magic string (scripts/sign-file.c).
func unsigned(b []byte) []byte {
	const magic = "~Module signature appended~\n"
	if end := len(b) - len(magic); end >= 12 && string(b[end:]) == magic {
		return b[:end-12-int(binary.BigEndian.Uint32(b[end-4:]))]
	}
	return b
}

// A QEMU that is killed is a guest that is lost, whatever it exits with.
func TestKilledQEMU(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	j := self("hello-and-spin")
	j.Stdout = writerFunc(func([]byte) {
		if signalDescendants(t, must(exec.LookPath("qemu-system-x86_64"))) != 1 {
			t.Error("there is not one QEMU")
		}
	})
	r, err := guest.Run(t.Context(), must(qemuKernel()), j)
	if err != nil || r.Outcome != record.GuestLost || !strings.Contains(r.Detail, "killed: killed") {
		t.Errorf("%v, %s: %s; want %s, killed", err, r.Outcome, r.Detail, record.GuestLost)
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) {
	f(b)
	return len(b), nil
}

// Without the modules of a virtio port the serial line carries all of it.
func TestSerialChannel(t *testing.T) {
	k := must(qemuKernel())
	k.Modules = ""
	j := self("output", fmt.Sprint(100_000))
	var out bytes.Buffer
	j.Stdout = &out
	r, err := guest.Run(t.Context(), k, j)
	if err != nil || r.Outcome != record.GuestFinished || r.ExitCode != 0 {
		t.Fatalf("%v, %s: %s\n%s", err, r.Outcome, r.Detail, r.KernelLog)
	}
	if !bytes.Equal(out.Bytes(), pattern(0, 100_000)) {
		t.Errorf("%d bytes of stdout are not those that were written", out.Len())
	}
	t.Log(r.Phases)
}

// A kernel without a note for PVH boots as bzImage.
func TestBzImage(t *testing.T) {
	k := must(qemuKernel())
	k.ELF = ""
	_, _, r := run(t, k, self("exit", "0"), 0)
	t.Log(r.Phases)
}

// fakeQEMU puts a script before QEMU on PATH. It runs the true one, but first
// what is given, for KVM.
func fakeQEMU(t *testing.T, kvm string) {
	t.Helper()
	dir := t.TempDir()
	script := fmt.Sprintf(`#!/bin/bash
case "$*" in *"-accel kvm"*)
	%s
esac
exec %s "$@"
`, kvm, must(exec.LookPath("qemu-system-x86_64")))
	if err := os.WriteFile(filepath.Join(dir, "qemu-system-x86_64"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// KVM is what the scripts make of it; its device is one that opens.
func TestAccelerator(t *testing.T) {
	k := must(qemuKernel()).WithKVM(os.DevNull)
	for _, tt := range []struct {
		name, kvm string
		reason    string
		usable    bool
	}{
		{name: "abort", kvm: `echo "error: failed to set MSR 0x10a" >&2; kill -ABRT $$`, reason: "qemu with kvm ended (killed: aborted): error: failed to set MSR 0x10a"},
		{name: "hang", kvm: `exec sleep 1000`, reason: "kvm gave no output for 5.0 s"},
		{name: "works", kvm: `set -- "${@/#kvm/tcg}"; set -- "${@/#host/max}"`, reason: "proven by a boot", usable: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fakeQEMU(t, tt.kvm)
			t.Setenv("XDG_CACHE_HOME", t.TempDir())
			want := guest.Accelerator{Name: guest.TCG, Reason: tt.reason}
			if tt.usable {
				want.Name = guest.KVM
			}
			for i, limit := range []time.Duration{6 * time.Second, 0} { // a trial once, then none
				k.Accelerator = guest.AutoAccelerator
				_, _, r := run(t, k, self("exit", "0"), 0)
				t.Log(r.Accelerator, r.Phases)
				if r.Accelerator != want {
					t.Errorf("guest %d: %v, want %v", i+1, r.Accelerator, want)
				}
				for _, p := range r.Phases {
					if p.Name == "kvm trial" && p.Ms.Duration() > limit {
						t.Errorf("guest %d: the trial took %v, want at most %v", i+1, p.Ms.Duration(), limit)
					}
				}
			}
			if tt.usable {
				return
			}
			k.Accelerator = guest.KVM
			if _, err := guest.Run(t.Context(), k, self("exit", "0")); err == nil || !strings.Contains(err.Error(), "as asked for") {
				t.Errorf("KVM as asked for: error is %v", err)
			}
		})
	}
}

// What /dev/kvm is in truth here: auto ends in a guest that works, with one
// trial at most.
func TestTrueKVM(t *testing.T) {
	k := must(qemuKernel())
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	k.Accelerator = guest.AutoAccelerator
	_, _, first := run(t, k, self("exit", "0"), 0)
	_, _, second := run(t, k, self("exit", "0"), 0)
	t.Log(first.Accelerator, first.Phases, second.Phases)
	if first.Accelerator != second.Accelerator {
		t.Errorf("the first guest: %v, the second: %v", first.Accelerator, second.Accelerator)
	}
	for _, p := range second.Phases {
		if p.Name == "kvm trial" {
			t.Error("there was a second trial")
		}
	}
}

// The time from the command to the job's main and to the end, by phase.
func BenchmarkQEMU(b *testing.B) {
	phases := phaseTimes{}
	for b.Loop() {
		_, _, r := run(b, must(qemuKernel()), self("exit", "0"), 0)
		phases.add(r)
	}
	phases.report(b)
}
