package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pmtulab/pmtulab/lab/guest"
	"github.com/pmtulab/pmtulab/lab/kernel"
	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/scenario"
	"github.com/pmtulab/pmtulab/lab/series"
)

// runFlags are the flags of the run command.
type runFlags struct {
	on, out, format, with, without string
	set                            []string
	live, bisect, redact           bool
	repeat                         int
	kernel                         kernelFlags
}

func runCommand() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run [SCENARIO|FILE]",
		Short: "Run one scenario and explain it",
		Long: `Run brings a scenario's network to life on a real kernel, makes its requests,
and explains each of them. Without an argument it runs the scenario "report".

With --repeat it does so several times, each time in a fresh network, and shows
how often each request had which outcome, and how its latency is distributed. A
guest is booted once for all runs. The series ends early with a run that ends in
error or is unsupported. The verdict is the worst of the runs': error before
unsupported, fail, inconclusive, pass.

Exit codes: 0 pass, 1 fail, 2 wrong usage or input, 3 unsupported here,
4 error of the lab or guest, 5 inconclusive, 130 interrupted (143 by SIGTERM).`,
		Example: `  pmtulab run
  pmtulab run report --set mtu=1450 --out result
  pmtulab run report --with client-route-mtu
  pmtulab run report --repeat 30 --out before
  pmtulab run report --kernel 6.12
  pmtulab run my-scenario.yaml --on uml --format json`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeScenario,
		RunE: func(c *cobra.Command, args []string) error {
			err := run(c, first(args, "report"), f)
			if f.bisect {
				return bisectError(err)
			}
			return err
		},
	}
	flags := c.Flags()
	flags.StringVar(&f.on, "on", "auto", "`PLACE` to run: "+either(words(onValues()))+" (see: pmtulab doctor)")
	f.kernel.add(c, "")
	flags.StringArrayVar(&f.set, "set", nil, "change a setting of the scenario, `KEY=VALUE`; may be repeated")
	flags.StringVar(&f.with, "with", "", "put a `MITIGATION` of the scenario in place (see: pmtulab mitigations ls)")
	flags.BoolVar(&f.live, "live", false, "with --with: change the network while connections are idle, not before they exist")
	flags.StringVar(&f.without, "without", "", "leave a `PART` out of the network: sidecar")
	flags.IntVar(&f.repeat, "repeat", 1, "make this many `RUNS`")
	flags.StringVar(&f.out, "out", "", "write result.json, report.html, junit.xml and capture.pcapng into the directory `DIR`")
	flags.BoolVar(&f.redact, "redact", false, "with --out: leave payload and TLS secrets out of capture.pcapng")
	flags.BoolVar(&f.bisect, "bisect", false, "exit codes for git bisect run: 0 pass, 1 fail, 125 neither; 128 wrong usage, which ends it")
	formatFlag(c, &f.format, textOrJSON()...)
	complete(c, "on", fixed(onValues()...))
	complete(c, "set", ofScenario(settingKeys, cobra.ShellCompDirectiveNoSpace))
	complete(c, "with", ofScenario(mitigationNames, cobra.ShellCompDirectiveDefault))
	complete(c, "without", fixed("sidecar"))
	complete(c, "repeat", fixed())
	if err := c.MarkFlagDirname("out"); err != nil {
		panic(err) // there is no such flag
	}
	return c
}

// Exit codes for git bisect run, beside 0 and 1 (git-bisect(1)).
const (
	bisectSkip  = 125
	bisectAbort = 128
)

// bisectError gives err the exit code that git bisect run has for it.
func bisectError(err error) error {
	var exit *exitError
	switch {
	case !errors.As(err, &exit) || exit.code == record.ExitFail: // nil and interruptions, too
		return err
	case exit.code == record.ExitUsage && !errors.Is(err, kernel.ErrInput):
		return &exitError{bisectAbort, exit.err}
	default:
		return &exitError{bisectSkip, exit.err}
	}
}

func run(c *cobra.Command, ref string, f runFlags) error {
	ctx := c.Context()
	s, file, err := f.scenario(ref)
	if err != nil {
		return err
	}
	if err := checkFormat(f.format, textOrJSON()...); err != nil {
		return err
	}
	if f.redact && f.out == "" {
		return usage(errors.New("--redact: says what to leave out of the capture of --out, which is not given"))
	}
	if f.repeat < 1 || f.repeat > series.MaxRuns {
		return usage(fmt.Errorf("--repeat %d: must be from 1 to %d", f.repeat, series.MaxRuns))
	}
	if records, inGuest := guest.Records(); inGuest && ref == scenarioFile {
		return streamRuns(ctx, order{scenario: s, flags: f}, records)
	}
	if err := prepareOut(f.out); err != nil {
		return usage(err)
	}
	begun := time.Now()
	progress := newProgress(f.repeat)
	place, reason, err := f.choose(ctx, s, progress)
	if err != nil {
		return err
	}
	made := place.run(ctx, order{s, file, f, reason, progress})
	progress.clear()
	if n := len(made.results); ctx.Err() != nil && n > 1 && made.results[n-1].Partial {
		made.results = made.results[:n-1] // the interrupted run
	}
	verdict, reasons, err := write(c.OutOrStdout(), f, made, time.Since(begun))
	switch {
	case err != nil:
		return &exitError{record.ExitError, err}
	case ctx.Err() != nil:
		return context.Cause(ctx) //nolint:wrapcheck // an *interruptError
	case verdict == record.Pass:
		return nil
	case f.format == "text": // it has said why
		return &exitError{code: verdict.ExitCode()}
	default:
		return &exitError{verdict.ExitCode(), fmt.Errorf("%s: %s", verdict, strings.Join(reasons, "; "))}
	}
}

// order is what is to be run.
type order struct {
	scenario scenario.Scenario
	// file is the YAML of the scenario.
	file  []byte
	flags runFlags
	// reason says why the place was chosen.
	reason   string
	progress *progress
}

// outcome is what came of an order.
type outcome struct {
	// results are those of the runs, at least one.
	results []record.Result
	// phases of a guest, around the runs.
	phases []record.Phase
	// capture is of the run that has a timeline; empty when there is none.
	capture captureFile
}

// repeat makes the runs of an order on this kernel and hands over each result,
// and what was seen, if that is wanted. All but the first of each verdict worse
// than the ones before it are without their timeline and packets: the series
// keeps one.
func (o order) repeat(ctx context.Context, options scenario.Options, ended func(record.Result, *record.Capture)) {
	options.Settings = o.flags.settings(o.scenario)
	var worst record.Verdict
	for range o.flags.repeat {
		var seen *record.Capture
		if o.flags.out != "" {
			seen = &record.Capture{}
			options.Capture, options.Redact = func(c record.Capture) { *seen = c }, o.flags.redact
		}
		r := scenario.Run(ctx, o.scenario, options)
		if worst != "" && !r.Verdict.Worse(worst) {
			r.Timeline, seen = nil, nil
		} else {
			worst = r.Verdict
		}
		ended(r, seen)
		if series.Ends(r.Verdict) {
			return
		}
		collect()
	}
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
	args := []string{"run", file, "--on", "host", "--repeat", strconv.Itoa(f.repeat)}
	for _, pair := range f.set {
		args = append(args, "--set", pair)
	}
	if f.with != "" {
		args = append(args, "--with", f.with, fmt.Sprintf("--live=%v", f.live))
	}
	if f.without != "" {
		args = append(args, "--without", f.without)
	}
	if f.out != "" { // the host writes the files; the guest has only to know
		args = append(args, "--out", "/", fmt.Sprintf("--redact=%v", f.redact))
	}
	return args
}
