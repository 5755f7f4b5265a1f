//go:build linux && (uml || qemu)

// Real guests, on each machine whose tag is given. Run as root and as an
// ordinary user:
//
//	go test -tags uml,qemu ./lab/guest

package guest_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab/guest"
	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/role"
	"github.com/pmtulab/pmtulab/lab/wait"
)

// kernels finds a kernel for each machine; a file per tag fills it.
var kernels = map[string]func() (guest.Kernel, error){}

func TestMain(m *testing.M) {
	role.Play(guest.Roles()...)
	if len(os.Args) > 2 && os.Args[1] == "job" {
		os.Exit(job(os.Args[2], os.Args[3:]))
	}
	os.Exit(m.Run())
}

// outputBytes is what the job "output" writes to each of its streams; it is no
// multiple of any buffer.
const outputBytes = 10<<20 + 7

// job is what the tests run in a guest, or as a command of its own.
func job(name string, args []string) int {
	switch name {
	case "exit":
		code, _ := strconv.Atoi(args[0])
		fmt.Println("standard output")
		fmt.Fprintln(os.Stderr, "standard error")
		return code
	case "output":
		n := outputBytes
		if len(args) > 0 {
			n, _ = strconv.Atoi(args[0])
		}
		return jobOutput(n)
	case "hello-and-spin":
		fmt.Println("hello")
		return job("spin", nil)
	case "environment":
		dir, _ := os.Getwd()
		fmt.Println(dir, os.Getenv("COLOUR"), os.Args[0], os.Getuid(), os.Getppid())
		b, err := os.ReadFile("testdata/below/file")
		fmt.Println(string(b), err)
		n, err := os.Stdin.Read(make([]byte, 1))
		fmt.Println(n, err)
	case "spin":
		for {
			runtime.Gosched()
		}
	case "write":
		if err := os.WriteFile(args[0], []byte(args[1]), 0); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		_ = wait.For(context.Background(), time.Second) // a panic takes effect at once
	case "kill-init":
		_ = syscall.Kill(1, syscall.SIGQUIT)
		_ = wait.For(context.Background(), time.Second)
	case "power-off":
		_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
	case "corrupt":
		// Bytes on the channel that are no frame; the program goes on.
		for _, serial := range []string{"/dev/ttyS0", "/dev/ttyS1"} {
			must(0, os.WriteFile(serial, []byte("these bytes are no frame of the channel"), 0))
		}
		_ = wait.For(context.Background(), time.Minute)
	case "truncate":
		// The first half of a record, the third frame; then the end.
		half := []byte("PM\x05\x00\x00\x00\x00\x02\x00\x00\x00\x20half of a record")
		for _, serial := range []string{"/dev/ttyS0", "/dev/ttyS1"} {
			must(0, os.WriteFile(serial, half, 0))
		}
		return job("power-off", nil)
	case "outputs":
		for name, content := range map[string]string{"/out/a": "A", "/out/sub/b": "B", "/single/file": "C"} {
			must(0, os.MkdirAll(filepath.Dir(name), 0o755))
			must(0, os.WriteFile(name, []byte(content), 0o755))
		}
		must(0, os.WriteFile("/out/large", pattern(0, outputBytes), 0o600))
		must(0, os.Symlink("/etc/passwd", "/out/link"))
		return 3
	case "panic":
		panic("a Go panic of the job")
	case "orphan":
		// The grandchild outlives the program and holds its stdout.
		cmd := exec.Command("/proc/self/exe", "job", "spin")
		cmd.Stdout = os.Stdout
		if err := cmd.Start(); err != nil {
			return 1
		}
	case "socket":
		return jobSocket()
	case "modules":
		io.Copy(os.Stdout, must(os.Open("/proc/modules")))
	case "run":
		return jobRun(args)
	case "exec":
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	default:
		return 99
	}
	return 0
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// jobOutput writes all byte values to stdout, stderr and records at once.
func jobOutput(n int) int {
	records, ok := guest.Records()
	if !ok {
		return 98
	}
	done := make(chan error)
	for i, w := range []io.Writer{os.Stdout, os.Stderr, records} {
		go func() {
			_, err := w.Write(pattern(i, n))
			done <- err
		}()
	}
	for range 3 {
		if err := <-done; err != nil {
			return 97
		}
	}
	return 0
}

// pattern is different for each stream and holds every byte value.
func pattern(stream, n int) []byte {
	b := make([]byte, n)
	x := uint32(stream + 1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

// jobSocket asks the kernel for a socket family that is a module: the kernel
// calls modprobe for net-pf-38, an alias of af_alg.
func jobSocket() int {
	fd, err := unix.Socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	unix.Close(fd)
	return 0
}

// jobRun is a command that runs a job in a guest with the kernel args[0], as
// kernelArg has made it.
func jobRun(args []string) int {
	var k guest.Kernel
	if err := json.Unmarshal([]byte(args[0]), &k); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	j := self(args[1:]...)
	if k.Modules != "" {
		j.Modules = []string{"veth"}
	}
	r, err := guest.Run(context.Background(), k, j)
	if err != nil || r.Outcome != record.GuestFinished {
		fmt.Fprintln(os.Stderr, err, r.Outcome, r.Detail)
		return 1
	}
	fmt.Println(r.Accelerator)
	return 0
}

// kernelArg is k as an argument of jobRun.
func kernelArg(k guest.Kernel) string { return string(must(json.Marshal(k))) }

// each runs a test on every machine whose tag is given.
func each(t *testing.T, test func(t *testing.T, k guest.Kernel)) {
	for name, find := range kernels {
		t.Run(name, func(t *testing.T) { test(t, must(find())) })
	}
}

// self is a job of this test binary.
func self(args ...string) guest.Job {
	return guest.Job{Path: "/proc/self/exe", Args: append([]string{"self", "job"}, args...)}
}

// run runs a job that must finish and returns its output.
func run(t testing.TB, k guest.Kernel, j guest.Job, code int) (stdout, stderr string, r guest.Result) {
	t.Helper()
	var out, errs bytes.Buffer
	j.Stdout, j.Stderr = &out, &errs
	j.RunTimeout = cmp.Or(j.RunTimeout, 30*time.Second)
	r, err := guest.Run(t.Context(), k, j)
	if err != nil {
		t.Fatalf("%v\nkernel log:\n%s", err, r.KernelLog)
	}
	if r.Outcome != record.GuestFinished || r.ExitCode != code {
		t.Fatalf("%s, exit code %d; want %s, %d: %s\nstdout: %s\nstderr: %s\nkernel log:\n%s", r.Outcome, r.ExitCode,
			record.GuestFinished, code, r.Detail, &out, &errs, r.KernelLog)
	}
	return out.String(), errs.String(), r
}

func TestExitCode(t *testing.T) {
	each(t, func(t *testing.T, k guest.Kernel) {
		for _, code := range []int{0, 7} {
			stdout, stderr, r := run(t, k, self("exit", fmt.Sprint(code)), code)
			if stdout != "standard output\n" || stderr != "standard error\n" {
				t.Errorf("stdout %q, stderr %q", stdout, stderr)
			}
			var names []string
			for _, p := range r.Phases {
				names = append(names, p.Name)
			}
			if want := []string{"initramfs", "boot", "modules", "run", "power-off"}; !slices.Equal(names, want) {
				t.Errorf("phases %q, want %q", names, want)
			}
			t.Log(r.Phases)
		}
	})
}

func TestSignalOfProgram(t *testing.T) {
	each(t, func(t *testing.T, k guest.Kernel) {
		run(t, k, guest.Job{Args: []string{"sh", "-c", "kill -SEGV $$"}}, 128+int(syscall.SIGSEGV))
	})
}

func TestGoPanicOfProgram(t *testing.T) {
	each(t, func(t *testing.T, k guest.Kernel) {
		_, stderr, _ := run(t, k, self("panic"), 2)
		if !strings.Contains(stderr, "a Go panic of the job") {
			t.Errorf("stderr is %q", stderr)
		}
	})
}

// A process that the program left behind neither holds the guest up nor loses
// output.
func TestOrphan(t *testing.T) {
	each(t, func(t *testing.T, k guest.Kernel) {
		run(t, k, self("orphan"), 0)
	})
}

func TestEnvironment(t *testing.T) {
	each(t, func(t *testing.T, k guest.Kernel) {
		source := t.TempDir()
		if err := os.MkdirAll(filepath.Join(source, "below"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(source, "below/file"), []byte("content"), 0o644); err != nil {
			t.Fatal(err)
		}
		j := self("environment")
		j.Env = []string{"COLOUR=red"}
		j.Dir = "/tmp/package/dir"
		j.Files = []guest.File{{Path: "/tmp/package/dir/testdata", Source: source}}
		stdout, _, _ := run(t, k, j, 0)
		if want := "/tmp/package/dir red self 0 1\ncontent <nil>\n0 EOF\n"; stdout != want {
			t.Errorf("stdout is %q, want %q", stdout, want)
		}
	})
}

// Ten megabytes on each stream at once arrive whole and unmixed.
func TestOutput(t *testing.T) {
	each(t, func(t *testing.T, k guest.Kernel) {
		var sums [3]interface {
			io.Writer
			Sum([]byte) []byte
		}
		for i := range sums {
			sums[i] = sha256.New()
		}
		j := self("output")
		j.Stdout, j.Stderr = sums[0], sums[1]
		j.Records = func(b []byte) { sums[2].Write(b) }
		r, err := guest.Run(t.Context(), k, j)
		if err != nil || r.ExitCode != 0 {
			t.Fatalf("%v, %s, exit code %d: %s", err, r.Outcome, r.ExitCode, r.Detail)
		}
		for i, name := range []string{"stdout", "stderr", "records"} {
			want := sha256.Sum256(pattern(i, outputBytes))
			if got := sums[i].Sum(nil); !bytes.Equal(got, want[:]) {
				t.Errorf("%s: SHA-256 is %x, want %x", name, got, want)
			}
		}
		t.Log(r.Phases)
	})
}

// Files come back when the program has failed as well; one that it did not
// write does not.
func TestOutputs(t *testing.T) {
	each(t, func(t *testing.T, k guest.Kernel) {
		dir := t.TempDir()
		j := self("outputs")
		j.Outputs = []guest.Output{
			{Path: "/out", Host: filepath.Join(dir, "made/out"), Dir: true},
			{Path: "/single/file", Host: filepath.Join(dir, "file")},
			{Path: "/never/written", Host: filepath.Join(dir, "never")},
		}
		_, _, r := run(t, k, j, 3)
		for name, want := range map[string][]byte{
			"made/out/a": []byte("A"), "made/out/sub/b": []byte("B"), "file": []byte("C"), "made/out/large": pattern(0, outputBytes),
		} {
			if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes, %v; want %d", name, len(got), err, len(want))
			}
		}
		for _, name := range []string{"never", "made/out/link"} {
			if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: %v, want none", name, err)
			}
		}
		if want := []string{"/out/link: Lrwxrwxrwx"}; !slices.Equal(r.Skipped, want) {
			t.Errorf("skipped %q, want %q", r.Skipped, want)
		}
	})
}

// ending is a way in which a guest ends badly.
type ending struct {
	name    string
	job     guest.Job
	args    []string // of the kernel
	modules string   // the directory, in place of the kernel's
	boot    time.Duration
	outcome record.GuestOutcome
	detail  string
	stacks  string // what they must show
}

func (e ending) test(t *testing.T, k guest.Kernel) {
	k.Args = append(k.Args, e.args...)
	k.Modules = cmp.Or(e.modules, k.Modules)
	e.job.BootTimeout, e.job.RunTimeout = e.boot, time.Second
	r, err := guest.Run(t.Context(), k, e.job)
	if err != nil {
		t.Fatal(err)
	}
	if r.Outcome != e.outcome || !strings.Contains(r.Detail, e.detail) || r.ExitCode != -1 {
		t.Errorf("%s (%s), exit code %d; want %s (%s), -1\nkernel log:\n%s",
			r.Outcome, r.Detail, r.ExitCode, e.outcome, e.detail, r.KernelLog)
	}
	stacks, _, _ := bytes.Cut(r.Stacks, []byte("no more stacks: "))
	if !bytes.Contains(stacks, []byte(e.stacks)) || !bytes.Contains(r.KernelLog, stacks) {
		t.Errorf("no %q in stacks:\n%s", e.stacks, r.Stacks)
	}
	t.Log(r.Detail, r.Accelerator)
}

// Every way in which a guest ends badly has its name.
func TestOutcomes(t *testing.T) {
	for _, e := range []ending{
		{name: "panic", job: self("write", "/proc/sysrq-trigger", "c"), outcome: record.GuestPanic, detail: "sysrq triggered crash"},
		{name: "init killed", job: self("kill-init"), outcome: record.GuestPanic, detail: "Attempted to kill init"},
		{name: "hang at run", job: self("spin"), outcome: record.GuestHangRun, detail: "did not end within 1s", stacks: "Show Blocked State"},
		{name: "hang at boot", job: self("spin"), boot: 100 * time.Millisecond, outcome: record.GuestHangBoot, detail: "did not start within 100ms"},
		{name: "no init", job: self("spin"), args: []string{"rdinit=/none"}, outcome: record.GuestPanic, detail: "not syncing"},
		{name: "power off", job: self("power-off"), outcome: record.GuestLost, detail: "without a final record"},
		{name: "corrupt", job: self("corrupt"), outcome: record.GuestLost, detail: "channel is corrupt"},
		{name: "truncated record", job: self("truncate"), outcome: record.GuestLost, detail: "read payload of frame 2: unexpected EOF"},
	} {
		t.Run(e.name, func(t *testing.T) { each(t, e.test) })
	}
}

func TestContextEndsGuest(t *testing.T) {
	each(t, func(t *testing.T, k guest.Kernel) {
		cause := errors.New("enough")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, cause)
		defer cancel()
		r, err := guest.Run(ctx, k, self("spin"))
		if !errors.Is(err, cause) || r.Outcome != record.GuestInfrastructure {
			t.Errorf("%v, %s; want %v, %s", err, r.Outcome, cause, record.GuestInfrastructure)
		}
	})
}

// labModules are the modules of the lab on a kernel without nftables NAT.
func labModules() []string {
	return strings.Fields("veth ipip bridge ip_vs ip_vs_rr ip_vs_wrr ip_vs_sh xt_REDIRECT xt_owner xt_tcpudp iptable_nat")
}

func TestModules(t *testing.T) {
	each(t, func(t *testing.T, k guest.Kernel) {
		j := self("modules")
		j.Modules = labModules()
		j.OptionalModules = []string{"no_such_module"}
		stdout, _, r := run(t, k, j, 0)
		for _, name := range j.Modules {
			if !strings.Contains("\n"+stdout, "\n"+name+" ") {
				t.Errorf("module %s is not loaded", name)
			}
		}
		t.Log(r.Phases)
	})
}

// The kernel's own modprobe finds a packed module by alias, and only when the
// job asked for that.
func TestModuleOnDemand(t *testing.T) {
	each(t, func(t *testing.T, k guest.Kernel) {
		j := self("socket")
		run(t, k, j, 1)
		j.OnDemand = []string{"af_alg"}
		run(t, k, j, 0)
	})
}

func TestMissingModule(t *testing.T) {
	each(t, func(t *testing.T, k guest.Kernel) {
		j := self("modules")
		j.Modules = []string{"veth", "no-such-module"}
		_, err := guest.Run(t.Context(), k, j)
		var missing *guest.ModuleError
		if !errors.As(err, &missing) || missing.Module != "no-such-module" {
			t.Errorf("error is %v, want a ModuleError of no-such-module", err)
		}
	})
}

// iptables-legacy needs libraries, plug-ins and modules: all of it is packed.
func TestHostProgram(t *testing.T) {
	each(t, func(t *testing.T, k guest.Kernel) {
		j := self("exec", "iptables-legacy", "-t", "nat", "-A", "OUTPUT", "-p", "tcp",
			"-m", "owner", "!", "--uid-owner", "1337", "-j", "REDIRECT", "--to-ports", "15001")
		j.Modules = labModules()
		j.Programs = []guest.Program{{
			Path:    "iptables-legacy",
			Plugins: []string{"/usr/lib/x86_64-linux-gnu/xtables/lib*t_*.so"},
		}}
		_, _, r := run(t, k, j, 0)
		t.Log(r.Phases)
	})
}

// Scripts run, too.
func TestScript(t *testing.T) {
	each(t, func(t *testing.T, k guest.Kernel) {
		script := filepath.Join(t.TempDir(), "script")
		if err := os.WriteFile(script, []byte("#!/bin/sh\necho \"$0 $1\"\nexit 3\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		stdout, _, _ := run(t, k, guest.Job{Args: []string{script, "argument"}}, 3)
		if want := script + " argument\n"; stdout != want {
			t.Errorf("stdout is %q, want %q", stdout, want)
		}
	})
}

// A dynamic program that is not this binary runs as the job itself.
func TestDynamicJob(t *testing.T) {
	each(t, func(t *testing.T, k guest.Kernel) {
		stdout, _, _ := run(t, k, guest.Job{Args: []string{"uname", "-s", "-m"}}, 0)
		if stdout != "Linux x86_64\n" {
			t.Errorf("stdout is %q", stdout)
		}
	})
}

// An ordinary user without a writable home runs guests as well.
func TestOrdinaryUser(t *testing.T) {
	if os.Getuid() != 0 {
		return // all other tests are this test
	}
	dir := t.TempDir()
	for d := dir; d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, must(os.Stat(d)).Mode()|0o755); err != nil {
			t.Fatal(err)
		}
	}
	binary := filepath.Join(dir, "guest.test")
	if err := os.WriteFile(binary, must(os.ReadFile("/proc/self/exe")), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, find := range kernels {
		k := must(find())
		if k.Machine == guest.QEMU {
			// The cache is root's; the user gets the kernel without its modules.
			elf := filepath.Join(dir, "vmlinux")
			if err := os.WriteFile(elf, must(os.ReadFile(k.ELF)), 0o644); err != nil {
				t.Fatal(err)
			}
			k.Image, k.ELF, k.Modules, k.Accelerator = elf, elf, "", guest.AutoAccelerator
		}
		cmd := exec.CommandContext(t.Context(), binary, "job", "run", kernelArg(k), "exit", "0")
		cmd.Dir = "/"
		cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		info, err := os.Stat("/dev/kvm")
		closed := err == nil && info.Mode()&0o006 == 0
		if want := "tcg: no permission to open /dev/kvm"; k.Machine == guest.QEMU && closed && !strings.Contains(string(out), want) {
			t.Errorf("%s: no %q in\n%s", name, want, out)
		}
	}
}

// phaseTimes sums the phases of guests, by name.
type phaseTimes map[string][]float64

func (p phaseTimes) add(r guest.Result) {
	total := 0.0
	for _, phase := range r.Phases {
		p[phase.Name] = append(p[phase.Name], float64(phase.Ms))
		if phase.Name == "initramfs" || phase.Name == "boot" || phase.Name == "modules" {
			total += float64(phase.Ms)
		}
	}
	p["to-main"] = append(p["to-main"], total)
}

// report reports medians.
func (p phaseTimes) report(b *testing.B) {
	for name, times := range p {
		slices.Sort(times)
		b.ReportMetric(times[len(times)/2], name+"-ms")
	}
}
