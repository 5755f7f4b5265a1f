package guest

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/pmtulab/pmtulab/lab/record"
)

func TestFindCrash(t *testing.T) {
	for _, tt := range []struct {
		file    string
		outcome record.GuestOutcome
		detail  string
	}{
		{"clean.log", "", ""},
		{"sysrq-panic.log", record.GuestPanic, "Kernel panic - not syncing: sysrq triggered crash"},
		{"qemu-panic.log", record.GuestPanic, "Kernel panic - not syncing: sysrq triggered crash"},
		{"qemu-oops.log", record.GuestOops, "invalid opcode: 0000 [#1] PREEMPT SMP NOPTI"},
		{"qemu-warning.log", record.GuestOops, "WARNING: CPU: 0 PID: 1 at include/linux/skbuff.h:3181 veth_init+0x5/0x1000 [veth]"},
		{"init-killed.log", record.GuestPanic, "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000200"},
		{"no-memory-initrd.log", record.GuestPanic, "Failed to allocate 49993880 bytes (the guest has too little memory: raise MemoryMiB)"},
		{"no-memory-unpack.log", record.GuestPanic, "System is deadlocked on memory (the guest has too little memory: raise MemoryMiB)"},
	} {
		log, err := os.ReadFile("testdata/log/" + tt.file)
		if err != nil {
			t.Fatal(err)
		}
		outcome, detail, ok := findCrash(log)
		if outcome != tt.outcome || !strings.HasSuffix(detail, tt.detail) || ok != (tt.outcome != "") {
			t.Errorf("%s: %q (%s), want %q (%s)", tt.file, outcome, detail, tt.outcome, tt.detail)
		}
	}
	// The first lines of an oops, as kernels of the last years print them.
	for _, line := range []string{
		"BUG: kernel NULL pointer dereference, address: 0000000000000000",
		"BUG: unable to handle page fault for address: ffffffffc0000000",
		"Oops: 0002 [#1] PREEMPT SMP NOPTI",
		"kernel BUG at net/core/skbuff.c:4219!",
		"general protection fault, probably for non-canonical address 0xdead000000000108: 0000 [#1] SMP",
		"watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [ip:123]",
		"BUG: KASAN: slab-out-of-bounds in ip_fragment+0x1/0x2",
		"WARNING: kernel/sched/core.c:8511 at sched_init+0x20/0x410, CPU#0: swapper/0", // from Linux 6.18 on
	} {
		log := "boot\n[    1.000000] " + line + "\nKernel panic - not syncing: Fatal exception\n"
		if outcome, detail, _ := findCrash([]byte(log)); outcome != record.GuestOops || !strings.Contains(detail, line) {
			t.Errorf("%q: %s (%s), want an oops", line, outcome, detail)
		}
	}
}

// A kernel that complains of its machine goes on.
func TestComplaintIsNoCrash(t *testing.T) {
	for _, line := range []string{
		"RETBleed: WARNING: Spectre v2 mitigation leaves CPU vulnerable to RETBleed attacks, data leaks possible!",
		"WARNING: BIOS bug: CPU MTRRs don't cover all of memory, losing 16MB of RAM.",
	} {
		if outcome, detail, ok := findCrash([]byte("[    0.100000] " + line + "\n")); ok {
			t.Errorf("%q: %s (%s)", line, outcome, detail)
		}
	}
}

func TestBoundedLog(t *testing.T) {
	var l boundedLog
	line := []byte(strings.Repeat("x", 99) + "\n")
	for range 100_000 {
		if _, err := l.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.WriteString(&l, "last"); err != nil {
		t.Fatal(err)
	}
	b := l.bytes()
	if len(b) > logHead+logTail+100 || !bytes.HasSuffix(b, []byte("x\nlast")) || !bytes.HasPrefix(b, line) {
		t.Errorf("log of %d bytes does not keep its ends", len(b))
	}
	dropped := 100*100_000 + 4 - logHead - logTail
	if want := "bytes of kernel log dropped"; !bytes.Contains(b, []byte(want)) || l.dropped != dropped {
		t.Errorf("%d bytes counted as dropped, want %d", l.dropped, dropped)
	}
}

func TestPrivateDir(t *testing.T) {
	fit := t.TempDir()
	candidates := []string{"/nonexistent/pmtulab", "/sys", "/proc", fit}
	if got, err := choosePrivateDir(candidates, 1); err != nil || got != fit {
		t.Errorf("chose %q, %v; want %q", got, err, fit)
	}
	_, err := choosePrivateDir(candidates, 1<<40)
	var unfit *DirError
	if !errors.As(err, &unfit) || len(unfit.Unfit) != len(candidates) {
		t.Fatalf("error is %v, want a DirError of all candidates", err)
	}
	for i, reason := range []string{"does not exist", "", "", "full: "} {
		if u := unfit.Unfit[i]; u.Dir != candidates[i] || u.Reason == "" || !strings.Contains(u.Reason, reason) {
			t.Errorf("%s: %q, want %q", u.Dir, u.Reason, reason)
		}
	}
	if entries, err := os.ReadDir(fit); err != nil || len(entries) > 0 {
		t.Errorf("probing left %v, %v", entries, err)
	}
}

// The same job makes the same bytes.
func TestInitramfsIsReproducible(t *testing.T) {
	k := Kernel{Machine: UML, Modules: moduleDir(t, map[string]string{
		"a.ko": "depends=b|alias=x", "b.ko": "depends=", "c.ko": "depends=b",
	}, "")}
	job := Job{
		Path: "/proc/self/exe", Modules: []string{"a"}, OnDemand: []string{"c"}, Dir: "/work",
		Files: []File{{Path: "/etc/x", Data: []byte("x")}, {Path: "/testdata", Source: "testdata"}},
	}
	var images [2][]byte
	for i := range images {
		f, err := buildInitramfs(k, channelDevice{}, job)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if images[i], err = io.ReadAll(f); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(images[0], images[1]) {
		t.Error("two archives of one job differ")
	}
	for _, name := range []string{"pmtulab:init", "usr/lib/modules/a.ko", "usr/lib/modules/b.ko", "usr/lib/modules/c.ko", "testdata/archive.golden", "work"} {
		if !bytes.Contains(images[0], []byte(name+"\x00")) {
			t.Errorf("%s is not packed", name)
		}
	}
}

func TestJobErrors(t *testing.T) {
	for name, job := range map[string]Job{
		"Args is empty":                  {},
		"pmtulab-no-such-program":        {Args: []string{"pmtulab-no-such-program"}},
		"the path in the guest is not":   {Path: "/proc/self/exe", Files: []File{{Path: "x"}}},
		"testdata/none":                  {Path: "/proc/self/exe", Files: []File{{Path: "/x", Source: "testdata/none"}}},
		"find program pmtulab-no-helper": {Path: "/proc/self/exe", Programs: []Program{{Path: "pmtulab-no-helper"}}},
	} {
		if f, err := buildInitramfs(Kernel{}, channelDevice{}, job); err == nil || !strings.Contains(err.Error(), name) {
			f.Close()
			t.Errorf("error is %v, want %q", err, name)
		}
	}
	if _, err := Run(t.Context(), Kernel{}, Job{}); err == nil || !strings.Contains(err.Error(), "FindUML") {
		t.Errorf("a kernel without a machine: %v", err)
	}
}

func TestEnvironHidesTheHost(t *testing.T) {
	got := Job{Env: []string{"A=b", "PMTULAB_RECORDS=9"}}.environ()
	if len(got) != 1 || got[0] != "A=b" {
		t.Errorf("environment is %q", got)
	}
}
