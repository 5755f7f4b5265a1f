package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pmtulab/pmtulab/lab"
	"github.com/pmtulab/pmtulab/lab/guest"
	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/report"
	"github.com/pmtulab/pmtulab/lab/scenario"
)

// runFlags are the flags of the run command.
type runFlags struct {
	on, out, format, with, without string
	set                            []string
	live                           bool
}

func runCommand() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run [SCENARIO|FILE]",
		Short: "Run one scenario and explain it",
		Long: `Run brings a scenario's network to life on a real kernel, makes its requests,
and explains each of them. Without an argument it runs the scenario "report".

Exit codes: 0 pass, 1 fail, 2 wrong usage or input, 3 unsupported here,
4 error of the lab or guest, 5 inconclusive.`,
		Example: `  pmtulab run
  pmtulab run report --set mtu=1450 --out result
  pmtulab run report --with client-route-mtu
  pmtulab run my-scenario.yaml --on uml --format json`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeScenario,
		RunE: func(c *cobra.Command, args []string) error {
			return run(c, first(args, "report"), f)
		},
	}
	flags := c.Flags()
	flags.StringVar(&f.on, "on", "auto", "where to run: host, uml (User-Mode Linux) or auto")
	flags.StringArrayVar(&f.set, "set", nil, "change a setting of the scenario, `KEY=VALUE`; may be repeated")
	flags.StringVar(&f.with, "with", "", "put a `MITIGATION` of the scenario in place (see: pmtulab mitigations ls)")
	flags.BoolVar(&f.live, "live", false, "with --with: change the network while connections are idle, not before they exist")
	flags.StringVar(&f.without, "without", "", "leave a `PART` out of the network: sidecar")
	flags.StringVar(&f.out, "out", "", "write result.json and junit.xml into the directory `DIR`")
	flags.StringVar(&f.format, "format", "text", "what goes to stdout: text or json")
	return c
}

func run(c *cobra.Command, ref string, f runFlags) error {
	s, file, err := f.scenario(ref)
	if err != nil {
		return err
	}
	if f.format != "text" && f.format != "json" {
		return usage(fmt.Errorf("--format %s: must be text or json", f.format))
	}
	if err := prepareOut(f.out); err != nil {
		return usage(err)
	}
	place, reason, err := choose(f.on, s)
	if err != nil {
		return err
	}

	progress := newProgress()
	var result record.Result
	if records, inGuest := guest.Records(); inGuest && ref == scenarioFile {
		return runInGuest(c.Context(), s, f.settings(s), records)
	}
	switch place {
	case "host":
		result = scenario.Run(c.Context(), s, scenario.Options{
			Settings: f.settings(s), Progress: progress.line,
			Runtime: record.Runtime{On: "host", Accelerator: "none", Reason: reason},
		})
	default:
		result = runOnUML(c.Context(), s, file, f, reason, progress)
	}
	progress.clear()
	if err := write(c.OutOrStdout(), f, result); err != nil {
		return &exitError{record.ExitError, err}
	}
	if result.Verdict == record.Pass {
		return nil
	}
	exit := &exitError{code: result.Verdict.ExitCode()}
	if f.format == "json" { // the text says it by itself
		exit.err = fmt.Errorf("%s: %s", result.Verdict, strings.Join(result.Reasons, "; "))
	}
	return exit
}

// scenario reads the scenario and changes it as the flags say.
func (f runFlags) scenario(ref string) (s scenario.Scenario, data []byte, err error) {
	set := map[string]string{}
	for _, pair := range f.set {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return s, nil, usage(fmt.Errorf("--set %s: must be KEY=VALUE", pair))
		}
		set[key] = value
	}
	file, data, err := scenario.Read(ref)
	if err != nil {
		return s, nil, usage(err)
	}
	if s, err = scenario.Parse(file, data, set); err != nil {
		return s, nil, usage(err)
	}
	if f.live && f.with == "" {
		return s, nil, usage(errors.New("--live: says when to make the change of --with, which is not given"))
	}
	if f.with != "" {
		if s, err = s.With(f.with, f.live); err != nil {
			return s, nil, usage(err)
		}
	}
	switch f.without {
	case "":
	case "sidecar":
		s = s.WithoutSidecars()
	default:
		return s, nil, usage(fmt.Errorf("--without %s: only the sidecar can be left out", f.without))
	}
	return s, data, nil
}

// settings are what the result says about how the scenario was changed.
func (f runFlags) settings(s scenario.Scenario) map[string]string {
	out := map[string]string{}
	for name, value := range s.Values {
		out[name] = fmt.Sprint(value)
	}
	if f.with != "" {
		out["with"] = f.with
		if f.live {
			out["with"] += ", live"
		}
	}
	if f.without != "" {
		out["without"] = f.without
	}
	return out
}

// args are the flags that a guest needs to run the same scenario from file.
func (f runFlags) args(file string) []string {
	args := []string{"run", file, "--on", "host"}
	for _, pair := range f.set {
		args = append(args, "--set", pair)
	}
	if f.with != "" {
		args = append(args, "--with", f.with, fmt.Sprintf("--live=%v", f.live))
	}
	if f.without != "" {
		args = append(args, "--without", f.without)
	}
	return args
}

// choose decides where to run.
func choose(on string, s scenario.Scenario) (place, reason string, err error) {
	switch on {
	case "host", "uml":
		return on, "--on " + on + " says so", nil
	case "auto":
		missing := lab.Probe(s.Topology)
		if missing == nil {
			return "host", "this kernel has what the lab needs", nil
		}
		if _, err := guest.FindUML(); err != nil {
			return "", "", &exitError{record.ExitUnsupported, fmt.Errorf("nowhere to run: host: %w; User-Mode Linux: %w", missing, err)}
		}
		return "uml", "this host has no " + strings.Join(lacking(missing), ", no "), nil
	default:
		return "", "", usage(fmt.Errorf("--on %s: must be host, uml or auto", on))
	}
}

// lacking lists the capabilities that err, a tree of errors, says are missing;
// what is no *lab.MissingError is told in full.
func lacking(err error) []string {
	var missing *lab.MissingError
	switch e := err.(type) { //nolint:errorlint // each node of the tree is looked at
	case interface{ Unwrap() []error }:
		var out []string
		for _, err := range e.Unwrap() {
			out = append(out, lacking(err)...)
		}
		return out
	default:
		if errors.As(err, &missing) {
			return []string{strings.TrimPrefix(missing.Capability, "the ")}
		}
		return []string{err.Error()}
	}
}

// update is one record from a run in a guest to the command on the host.
type update struct {
	Progress string         `json:"progress,omitempty"`
	Result   *record.Result `json:"result,omitempty"`
	// Final tells the last result from a checkpoint.
	Final bool `json:"final,omitempty"`
}

// runInGuest runs here and streams everything to the command on the host,
// which judges the guest, renders and sets the exit code.
func runInGuest(ctx context.Context, s scenario.Scenario, settings map[string]string, records io.WriteCloser) (err error) {
	defer func() { err = errors.Join(err, records.Close()) }()
	encoder := json.NewEncoder(records)
	send := func(u update) {
		// A host that has gone leaves nobody to tell.
		_ = encoder.Encode(u)
	}
	result := scenario.Run(ctx, s, scenario.Options{
		Settings: settings, OwnMachine: true,
		Runtime:  record.Runtime{On: "host", Accelerator: "none"},
		Progress: func(line string) { send(update{Progress: line}) },
		Checkpoint: func(r record.Result) {
			r.Timeline = nil // large, and useless without its end
			send(update{Result: &r})
		},
	})
	send(update{Result: &result, Final: true})
	return nil
}

// scenarioFile is where a guest finds the scenario.
const scenarioFile = "/scenario.yaml"

// runOnUML runs the scenario in User-Mode Linux.
func runOnUML(ctx context.Context, s scenario.Scenario, file []byte, f runFlags, reason string, p *progress) record.Result {
	begun := time.Now()
	failed := record.Result{
		Schema: record.Schema, Scenario: s.Name, Started: begun.UTC(), Verdict: record.Error, Partial: true, Drawing: s.Topology.Draw(),
		Settings: f.settings(s),
		Runtime:  record.Runtime{On: "uml", Kernel: "unknown", Accelerator: "none", Reason: reason},
	}
	kernel, err := guest.FindUML()
	if err != nil {
		failed.Verdict, failed.Reasons = record.Unsupported, []string{err.Error()}
		return failed
	}
	failed.Runtime.Kernel = kernel.Release
	p.line("boot Linux " + kernel.Release + " in User-Mode Linux")

	result, final := failed, false
	records := &lines{each: func(data []byte) {
		var u update
		if err := json.Unmarshal(data, &u); err != nil {
			result.Reasons = append(result.Reasons, fmt.Sprintf("a record of the guest is not readable: %v", err))
			return
		}
		if u.Result != nil {
			result, final = *u.Result, u.Final
		} else {
			p.line(u.Progress)
		}
	}}
	job := guest.Job{
		Path: "/proc/self/exe", Args: append([]string{"pmtulab"}, f.args(scenarioFile)...),
		// The collector would take its share of one processor in the middle
		// of a measurement; a run never fills this much memory.
		Env:     []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TMPDIR=/tmp", "GOGC=off", "GOMEMLIMIT=96MiB"},
		Files:   []guest.File{{Path: scenarioFile, Data: file}},
		Modules: labModules, OptionalModules: optionalModules,
		Stderr: os.Stderr, Records: records.write,
		RunTimeout: runTimeout,
	}
	if program, err := redirect(); err == nil {
		job.Programs = append(job.Programs, program)
	}
	out, err := guest.Run(ctx, kernel, job)
	release := result.Runtime.Kernel
	result.Runtime = failed.Runtime
	result.Runtime.Kernel = release
	result.Phases = append(out.Phases, result.Phases...)
	result.Duration = record.Millis(time.Since(begun))
	var module *guest.ModuleError
	switch {
	case errors.As(err, &module):
		result.Verdict, result.Reasons = record.Unsupported, append(result.Reasons, err.Error())
	case err != nil:
		result.Verdict, result.Reasons = record.Error, append(result.Reasons, err.Error())
	case out.Outcome != record.GuestFinished || !final:
		result.Verdict, result.Partial = record.Error, true
		result.Reasons = append(result.Reasons, fmt.Sprintf("guest outcome %q, exit code %d: %s; the end of its kernel log: %s",
			out.Outcome, out.ExitCode, out.Detail, tail(out.KernelLog, 10)))
	}
	return result
}

// runTimeout bounds a scenario in a guest; its steps have shorter limits.
const runTimeout = 2 * time.Minute

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

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
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

func tail(log []byte, n int) string {
	lines := strings.Split(strings.TrimRight(string(log), "\n"), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}

// prepareOut makes the directory for results and proves that it can be written
// to, before a run that would have nowhere to go.
func prepareOut(dir string) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("--out %s: %w; choose a directory that you may write to", dir, err)
	}
	probe, err := os.CreateTemp(dir, ".pmtulab-*")
	if err != nil {
		return fmt.Errorf("--out %s: %w; choose a directory that you may write to", dir, err)
	}
	_ = probe.Close()
	if err := os.Remove(probe.Name()); err != nil {
		return fmt.Errorf("--out %s: %w", dir, err)
	}
	return nil
}

// write puts the result where the flags want it.
func write(stdout io.Writer, f runFlags, r record.Result) error {
	if f.out != "" {
		for name, render := range map[string]func(io.Writer, record.Result) error{
			"result.json": report.JSON, "junit.xml": report.JUnit,
		} {
			if err := writeFile(filepath.Join(f.out, name), r, render); err != nil {
				return err
			}
		}
	}
	if f.format == "json" {
		return report.JSON(stdout, r) //nolint:wrapcheck // says what it was writing
	}
	color := term.IsTerminal(int(os.Stdout.Fd())) && os.Getenv("NO_COLOR") == ""
	return report.Terminal(stdout, r, color) //nolint:wrapcheck // says what it was writing
}

// writeFile replaces path as a whole or not at all.
func writeFile(path string, r record.Result, render func(io.Writer, record.Result) error) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), ".pmtulab-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	err = errors.Join(render(temporary, r), temporary.Chmod(0o644), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(temporary.Name())))
	}
	return nil
}

// progress shows what happens on stderr: one line that changes on a terminal,
// plain lines elsewhere.
type progress struct {
	terminal bool
	begun    time.Time
}

func newProgress() *progress {
	return &progress{terminal: term.IsTerminal(int(os.Stderr.Fd())), begun: time.Now()}
}

func (p *progress) line(text string) {
	at := time.Since(p.begun).Seconds()
	if p.terminal {
		fmt.Fprintf(os.Stderr, "\r\x1b[K%5.1f s  %s", at, text)
	} else {
		fmt.Fprintf(os.Stderr, "pmtulab: %5.1f s  %s\n", at, text)
	}
}

func (p *progress) clear() {
	if p.terminal {
		fmt.Fprint(os.Stderr, "\r\x1b[K")
	}
}
