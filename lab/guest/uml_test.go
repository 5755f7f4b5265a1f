//go:build linux && uml

// Real guests on User-Mode Linux. Run as root and as an ordinary user:
//
//	go test -tags uml ./lab/guest

package guest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
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
		return jobOutput()
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
func jobOutput() int {
	records, ok := guest.Records()
	if !ok {
		return 98
	}
	done := make(chan error)
	for i, w := range []io.Writer{os.Stdout, os.Stderr, records} {
		go func() {
			_, err := w.Write(pattern(i))
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
func pattern(stream int) []byte {
	b := make([]byte, outputBytes)
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

// jobRun is a command that runs a job in a guest.
func jobRun(args []string) int {
	k, err := guest.FindUML()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	j := self(args...)
	j.Modules = []string{"veth"}
	r, err := guest.Run(context.Background(), k, j)
	if err != nil || r.Outcome != record.GuestFinished {
		fmt.Fprintln(os.Stderr, err, r.Outcome, r.Detail)
		return 1
	}
	return 0
}

func kernel(t testing.TB) guest.Kernel {
	t.Helper()
	k, err := guest.FindUML()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// self is a job of this test binary.
func self(args ...string) guest.Job {
	return guest.Job{Path: "/proc/self/exe", Args: append([]string{"self", "job"}, args...)}
}

// run runs a job that must finish and returns its output.
func run(t testing.TB, j guest.Job, code int) (stdout, stderr string, r guest.Result) {
	t.Helper()
	var out, errs bytes.Buffer
	j.Stdout, j.Stderr = &out, &errs
	r, err := guest.Run(t.Context(), kernel(t), j)
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
	for _, code := range []int{0, 7} {
		stdout, stderr, r := run(t, self("exit", fmt.Sprint(code)), code)
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
}

func TestSignalOfProgram(t *testing.T) {
	run(t, guest.Job{Args: []string{"sh", "-c", "kill -SEGV $$"}}, 128+int(syscall.SIGSEGV))
}

func TestGoPanicOfProgram(t *testing.T) {
	_, stderr, _ := run(t, self("panic"), 2)
	if !strings.Contains(stderr, "a Go panic of the job") {
		t.Errorf("stderr is %q", stderr)
	}
}

// A process that the program left behind neither holds the guest up nor loses
// output.
func TestOrphan(t *testing.T) {
	run(t, self("orphan"), 0)
}

func TestEnvironment(t *testing.T) {
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
	stdout, _, _ := run(t, j, 0)
	if want := "/tmp/package/dir red self 0 1\ncontent <nil>\n0 EOF\n"; stdout != want {
		t.Errorf("stdout is %q, want %q", stdout, want)
	}
}

// Ten megabytes on each stream at once arrive whole and unmixed.
func TestOutput(t *testing.T) {
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
	r, err := guest.Run(t.Context(), kernel(t), j)
	if err != nil || r.ExitCode != 0 {
		t.Fatalf("%v, %s, exit code %d: %s", err, r.Outcome, r.ExitCode, r.Detail)
	}
	for i, name := range []string{"stdout", "stderr", "records"} {
		want := sha256.Sum256(pattern(i))
		if got := sums[i].Sum(nil); !bytes.Equal(got, want[:]) {
			t.Errorf("%s: SHA-256 is %x, want %x", name, got, want)
		}
	}
	t.Log(r.Phases)
}

// Every way in which a guest ends badly has its name.
func TestOutcomes(t *testing.T) {
	for _, tt := range []struct {
		name    string
		job     guest.Job
		args    []string // of the kernel
		boot    time.Duration
		outcome record.GuestOutcome
		detail  string
	}{
		{name: "panic", job: self("write", "/proc/sysrq-trigger", "c"), outcome: record.GuestPanic, detail: "sysrq triggered crash"},
		{name: "init killed", job: self("kill-init"), outcome: record.GuestPanic, detail: "Attempted to kill init"},
		{name: "hang at run", job: self("spin"), outcome: record.GuestHangRun, detail: "did not end within 1s"},
		{name: "hang at boot", job: self("spin"), boot: 100 * time.Millisecond, outcome: record.GuestHangBoot, detail: "did not start within 100ms"},
		{name: "no init", job: self("spin"), args: []string{"rdinit=/none"}, outcome: record.GuestPanic, detail: "not syncing"},
		{name: "power off", job: self("power-off"), outcome: record.GuestLost, detail: "without a final record"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := kernel(t)
			k.Args = tt.args
			tt.job.BootTimeout, tt.job.RunTimeout = tt.boot, time.Second
			r, err := guest.Run(t.Context(), k, tt.job)
			if err != nil {
				t.Fatal(err)
			}
			if r.Outcome != tt.outcome || !strings.Contains(r.Detail, tt.detail) || r.ExitCode != -1 {
				t.Errorf("%s (%s), exit code %d; want %s (%s), -1\nkernel log:\n%s",
					r.Outcome, r.Detail, r.ExitCode, tt.outcome, tt.detail, r.KernelLog)
			}
			t.Log(r.Detail)
		})
	}
}

func TestContextEndsGuest(t *testing.T) {
	cause := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, cause)
	defer cancel()
	r, err := guest.Run(ctx, kernel(t), self("spin"))
	if !errors.Is(err, cause) || r.Outcome != record.GuestInfrastructure {
		t.Errorf("%v, %s; want %v, %s", err, r.Outcome, cause, record.GuestInfrastructure)
	}
}

func TestTooLittleMemory(t *testing.T) {
	for _, mib := range []int{24, 80} { // too little to hold it, to unpack it
		j := self("exit", "0")
		j.MemoryMiB = mib
		j.Files = []guest.File{{Path: "/big", Data: make([]byte, 40<<20)}}
		r, err := guest.Run(t.Context(), kernel(t), j)
		if err != nil {
			t.Fatal(err)
		}
		if r.Outcome != record.GuestPanic || !strings.Contains(r.Detail, "raise MemoryMiB") {
			t.Errorf("%d MiB: %s (%s) does not name the remedy\n%s", mib, r.Outcome, r.Detail, r.KernelLog)
		}
		t.Log(r.Detail)
	}
}

// labModules are the modules of the lab on a kernel without nftables NAT.
func labModules() []string {
	return strings.Fields("veth ipip bridge ip_vs ip_vs_rr ip_vs_wrr ip_vs_sh xt_REDIRECT xt_owner xt_tcpudp iptable_nat")
}

func TestModules(t *testing.T) {
	j := self("modules")
	j.Modules = labModules()
	j.OptionalModules = []string{"no_such_module"}
	stdout, _, r := run(t, j, 0)
	for _, name := range j.Modules {
		if !strings.Contains("\n"+stdout, "\n"+name+" ") {
			t.Errorf("module %s is not loaded", name)
		}
	}
	t.Log(r.Phases)
}

// The kernel's own modprobe finds a packed module by alias, and only when the
// job asked for that.
func TestModuleOnDemand(t *testing.T) {
	j := self("socket")
	run(t, j, 1)
	j.OnDemand = []string{"af_alg"}
	run(t, j, 0)
}

func TestMissingModule(t *testing.T) {
	j := self("modules")
	j.Modules = []string{"veth", "no-such-module"}
	_, err := guest.Run(t.Context(), kernel(t), j)
	var missing *guest.ModuleError
	if !errors.As(err, &missing) || missing.Module != "no-such-module" {
		t.Errorf("error is %v, want a ModuleError of no-such-module", err)
	}
}

// iptables-legacy needs libraries, plug-ins and modules: all of it is packed.
func TestHostProgram(t *testing.T) {
	j := self("exec", "iptables-legacy", "-t", "nat", "-A", "OUTPUT", "-p", "tcp",
		"-m", "owner", "!", "--uid-owner", "1337", "-j", "REDIRECT", "--to-ports", "15001")
	j.Modules = labModules()
	j.Programs = []guest.Program{{
		Path:    "iptables-legacy",
		Plugins: []string{"/usr/lib/x86_64-linux-gnu/xtables/lib*t_*.so"},
	}}
	_, _, r := run(t, j, 0)
	t.Log(r.Phases)
}

// Scripts run, too.
func TestScript(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho \"$0 $1\"\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	stdout, _, _ := run(t, guest.Job{Args: []string{script, "argument"}}, 3)
	if want := script + " argument\n"; stdout != want {
		t.Errorf("stdout is %q, want %q", stdout, want)
	}
}

// A dynamic program that is not this binary runs as the job itself.
func TestDynamicJob(t *testing.T) {
	stdout, _, _ := run(t, guest.Job{Args: []string{"uname", "-s", "-m"}}, 0)
	if stdout != "Linux x86_64\n" {
		t.Errorf("stdout is %q", stdout)
	}
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
	cmd := exec.CommandContext(t.Context(), binary, "job", "run", "exit", "0")
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// The time from the command to the job's main and to the end, by phase.
func BenchmarkGuest(b *testing.B) {
	sums := map[string]float64{}
	for b.Loop() {
		_, _, r := run(b, self("exit", "0"), 0)
		for _, p := range r.Phases {
			sums[p.Name] += float64(p.Ms)
		}
	}
	for name, sum := range sums {
		b.ReportMetric(sum/float64(b.N), name+"-ms/op")
	}
}
