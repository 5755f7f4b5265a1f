package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/pmtulab/pmtulab/lab"
	"github.com/pmtulab/pmtulab/lab/guest"
	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/scenario"
	"github.com/pmtulab/pmtulab/lab/series"
)

// guestPlace is a guest with the kernel that find returns.
func guestPlace(machine guest.Machine, find func() (guest.Kernel, error)) place {
	find = sync.OnceValues(find)
	p := place{name: string(machine), title: "User-Mode Linux", needs: func(s scenario.Scenario) []lab.Need { return umlNeeds(s, find) }}
	if machine == guest.QEMU {
		p.title, p.needs = "QEMU", func(scenario.Scenario) []lab.Need { return qemuNeeds(find) }
	}
	p.kernel = func() string {
		k, err := find()
		if err != nil {
			return ""
		}
		return k.Release
	}
	p.run = func(ctx context.Context, o order) outcome { return runInGuest(ctx, p, find, o) }
	return p
}

// umlNeeds lists what booting User-Mode Linux for s needs of the host.
func umlNeeds(s scenario.Scenario, find func() (guest.Kernel, error)) []lab.Need {
	kernel, err := find()
	there := ifThere("linux.uml", err)
	needs := []lab.Need{
		{
			Name: "linux.uml", What: "linux.uml", Remedy: "apt-get install user-mode-linux, or: pmtulab kernels pull uml",
			Try: func(*lab.Node) (string, error) { return kernel.Image, err },
		},
		{
			Name: "modules", What: "kernel modules " + strings.Join(labModules, ", "),
			Remedy: "use a User-Mode Linux that has them, such as that of the Debian package user-mode-linux",
			Try:    there(func() (string, error) { return "", kernel.TryModules(labModules) }),
		},
		{
			Name: "ptrace", What: "the right to trace processes (ptrace)",
			Remedy: "sysctl kernel.yama.ptrace_scope=1, and allow ptrace in the seccomp profile of the container",
			Try:    there(func() (string, error) { return "", kernel.TryTrace() }),
		},
		{
			Name: "guest-memory", What: fmt.Sprintf("a directory for %d MiB of guest memory", guest.DefaultMemoryMiB),
			Remedy: "set TMPDIR to a directory that is writable, allows exec and has the room",
			Try:    func(*lab.Node) (string, error) { return guest.TryMemory(guest.DefaultMemoryMiB) },
		},
	}
	if hasSidecar(s) {
		needs = append(needs, lab.Need{
			Name: "iptables-legacy", What: redirectProgram.Path + " for the sidecar's redirect", Remedy: "apt-get install iptables",
			Try: func(*lab.Node) (string, error) {
				program, err := redirect()
				return program.Path, err
			},
		})
	}
	return passive(needs)
}

// qemuNeeds lists what booting a kernel in QEMU needs of the host.
func qemuNeeds(find func() (guest.Kernel, error)) []lab.Need {
	kernel, err := find()
	there := ifThere("kernel", err)
	return passive([]lab.Need{
		{
			Name: "qemu", What: "qemu-system-x86_64", Remedy: "apt-get install qemu-system-x86",
			Try: func(*lab.Node) (string, error) { return guest.TryQEMU() },
		},
		{
			Name: "accelerator", What: "an accelerator",
			Try: func(*lab.Node) (string, error) {
				a, err := guest.TryAccelerator()
				if errors.Is(err, guest.ErrNoQEMU) {
					return "", &lab.UntriedError{Why: "there is no QEMU"}
				}
				return a.String(), err
			},
		},
		{
			Name: "kernel", What: "a kernel for QEMU", Remedy: "pmtulab kernels pull 6.12",
			Try: func(*lab.Node) (string, error) { return kernel.Release, err },
		},
		{
			Name: "modules", What: "kernel modules " + strings.Join(labModules, ", "),
			Remedy: "use a kernel that has them, such as: pmtulab kernels pull 6.12",
			Try:    there(func() (string, error) { return "", kernel.TryModules(labModules) }),
		},
	})
}

// ifThere makes needs that cannot be tried where something else is missing.
func ifThere(what string, missing error) func(try func() (string, error)) func(*lab.Node) (string, error) {
	return func(try func() (string, error)) func(*lab.Node) (string, error) {
		return func(*lab.Node) (string, error) {
			if missing != nil {
				return "", &lab.UntriedError{Why: "there is no " + what}
			}
			return try()
		}
	}
}

func passive(needs []lab.Need) []lab.Need {
	for i := range needs {
		needs[i].Passive = true
	}
	return needs
}

func hasSidecar(s scenario.Scenario) bool {
	for _, n := range s.Topology.Nodes {
		if n.Sidecar != nil {
			return true
		}
	}
	return false
}

// scenarioFile is where a guest finds the scenario.
const scenarioFile = "/scenario.yaml"

// runTimeout bounds each run in a guest; its steps have shorter limits.
const runTimeout = 2 * time.Minute

// runInGuest makes the runs of an order in a guest at p. One boot serves all:
// what one run leaves behind for another is a namespace's (PMTU exceptions, TCP
// metrics, counters, IPVS), and each run has fresh ones.
func runInGuest(ctx context.Context, p place, find func() (guest.Kernel, error), o order) outcome {
	failed := record.Result{
		Schema: record.Schema, Scenario: o.scenario.Name, Started: time.Now().UTC(), Verdict: record.Error, Partial: true,
		Drawing: o.scenario.Topology.Draw(), Settings: o.flags.settings(o.scenario),
		Runtime: record.Runtime{On: p.name, Kernel: "unknown", KernelRef: o.flags.kernel.ref, Accelerator: guest.NoAccelerator, Reason: o.reason},
	}
	kernel, err := find()
	if err != nil {
		failed.Verdict, failed.Reasons = record.Unsupported, []string{err.Error()}
		return outcome{results: []record.Result{failed}}
	}
	failed.Runtime.Kernel = kernel.Release
	o.progress.line("boot Linux " + kernel.Release + " in " + p.title)

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	overdue := time.AfterFunc(guest.QEMUBootTimeout+runTimeout, func() {
		cancel(fmt.Errorf("the guest's run did not end within %v", runTimeout))
	})
	defer overdue.Stop()
	var results []record.Result
	var capture captureFile
	current := failed // as far as known, the run under way
	records := &lines{each: func(data []byte) {
		var u update
		if err := json.Unmarshal(data, &u); err != nil {
			current.Reasons = append(current.Reasons, fmt.Sprintf("a record of the guest is not readable: %v", err))
			return
		}
		switch {
		case u.Capture != nil:
			capture.add(*u.Capture)
		case u.Result == nil:
			o.progress.line(u.Progress)
		case !u.Final:
			current = *u.Result
		default:
			overdue.Reset(runTimeout)
			o.progress.ended(*u.Result)
			results, current = append(results, *u.Result), failed
		}
	}}
	job := guest.Job{
		Path: "/proc/self/exe", Args: append([]string{"pmtulab"}, o.flags.args(scenarioFile)...),
		// The collector would take its share of one processor in the middle
		// of a measurement; a run never fills this much memory.
		Env:     []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TMPDIR=/tmp", "GOGC=off", "GOMEMLIMIT=96MiB"},
		Files:   []guest.File{{Path: scenarioFile, Data: o.file}},
		Modules: labModules, OptionalModules: optionalModules,
		Stderr: os.Stderr, Records: records.write,
	}
	job.Programs = redirectPrograms(kernel)
	out, err := guest.Run(ctx, kernel, job)
	if n := capture.missing; n > 0 {
		o.progress.line(fmt.Sprintf("the last %d bytes of capture.pcapng are missing: it has the limit of %d MiB", n, maxCapture>>20))
	}
	if n := len(results); n == 0 || n < o.flags.repeat && !series.Ends(results[n-1].Verdict) {
		results = append(results, current)
	}
	last := &results[len(results)-1]
	var module *guest.ModuleError
	switch {
	case errors.As(err, &module), errors.Is(err, guest.ErrNoQEMU):
		last.Verdict, last.Reasons = record.Unsupported, append(last.Reasons, err.Error())
	case err != nil:
		last.Verdict, last.Reasons = record.Error, append(last.Reasons, err.Error())
	case out.Outcome != record.GuestFinished || last.Partial && len(last.Reasons) == 0:
		last.Verdict, last.Partial = record.Error, true
		last.Reasons = append(last.Reasons, fmt.Sprintf("guest outcome %q, exit code %d: %s; %s",
			out.Outcome, out.ExitCode, out.Detail, lastWords(out)))
	}
	if kernel.Machine == guest.QEMU {
		failed.Runtime.Accelerator, failed.Runtime.AcceleratorReason = out.Accelerator.Name, out.Accelerator.Reason
	}
	for i := range results {
		release := results[i].Runtime.Kernel
		results[i].Runtime = failed.Runtime
		results[i].Runtime.Kernel = release
	}
	return outcome{results, out.Phases, capture}
}

// redirectPrograms are the programs to pack for sidecars: none where nftables can
// do NAT. User-Mode Linux has the modules for it, but not for IPv4.
func redirectPrograms(k guest.Kernel) []guest.Program {
	if k.Machine == guest.QEMU && k.TryModules([]string{"nft_chain_nat", "nft_redir"}) == nil {
		return nil
	}
	program, err := redirect()
	if err != nil {
		return nil // the redirect itself will say what it lacks
	}
	return []guest.Program{program}
}

// redirect is the host program that sidecars need on kernels without NAT in
// nftables; an error when it is not installed.
func redirect() (guest.Program, error) {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if path := filepath.Join(dir, redirectProgram.Path); isFile(path) {
			return guest.Program{Path: path, Plugins: redirectProgram.Plugins}, nil
		}
	}
	return guest.Program{}, fmt.Errorf("find %s: %w", redirectProgram.Path, fs.ErrNotExist)
}

// lines cuts a stream into lines.
type lines struct {
	each func(line []byte)
	rest []byte
}

func (l *lines) write(data []byte) {
	l.rest = append(l.rest, data...)
	for {
		line, rest, found := bytes.Cut(l.rest, []byte("\n"))
		if !found {
			return
		}
		l.each(line)
		l.rest = rest
	}
}

// lastWords is what the kernel of a guest that did not finish said last: where it
// hung, what its tasks and processors did then.
func lastWords(r guest.Result) string {
	if len(r.Stacks) > 0 {
		return "what its kernel said when asked:\n" + tail(r.Stacks, 200)
	}
	return "the end of its kernel log:\n" + tail(r.KernelLog, 20)
}

func tail(log []byte, n int) string {
	lines := strings.Split(strings.TrimRight(string(log), "\n"), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}
