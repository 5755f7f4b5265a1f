package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/pmtulab/pmtulab/lab/guest"
	"github.com/pmtulab/pmtulab/lab/kernel"
	"github.com/pmtulab/pmtulab/lab/matrix"
	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/report"
	"github.com/pmtulab/pmtulab/lab/scenario"
)

// matrixFlags are the flags of the matrix command.
type matrixFlags struct {
	kernels, accel, shard, out, format string
	with, set                          []string
	live                               bool
	jobs                               int
}

// matrixFormats are the values of --format.
func matrixFormats() []cobra.Completion {
	return append(textOrJSON(),
		cobra.CompletionWithDesc("junit", "a test suite, for CI"),
		cobra.CompletionWithDesc("markdown", "a summary, for CI"),
	)
}

func matrixForms() forms[record.Matrix] {
	return forms[record.Matrix]{
		json: report.JSON[record.Matrix], junit: report.MatrixJUnit, markdown: report.MatrixMarkdown, styled: report.Matrix,
	}
}

func matrixCommand() *cobra.Command {
	var f matrixFlags
	c := &cobra.Command{
		Use:   "matrix [SCENARIO|FILE]…",
		Short: "Run scenarios on several kernels, and compare them",
		Long: `Matrix runs each scenario on each kernel, as run does, several at a time, and
shows what differs between kernels. Without an argument it runs "report".
Kernels that are not here are fetched first. With --with each scenario is run
with each of these mitigations as well. A kernel that cannot be had or does not
boot fails its own cells only.

With --shard I/N it runs the I-th of N parts, for machines that share the work;
pmtulab report DIR… puts their results together.

Exit codes: those of run, for the worst cell; one that no kernel could run has
failed.`,
		Example: `  pmtulab matrix --kernels 5.10,6.1,6.12,7
  pmtulab matrix report question-4 --kernels 6.1,uml/6.1 --with all --out made
  pmtulab matrix --kernels host,6.12 --shard 1/2 --out part-1`,
		ValidArgsFunction: func(c *cobra.Command, _ []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return completeScenario(c, nil, word)
		},
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{"report"}
			}
			return f.run(c, args)
		},
	}
	flags := c.Flags()
	flags.StringVar(&f.kernels, "kernels", "", "`KERNELS` to run on, with commas between (see: pmtulab kernels)")
	flags.StringVar(&f.accel, "accel", "auto", "`ACCELERATOR` of QEMU: "+either(words(accelerators())))
	flags.IntVarP(&f.jobs, "jobs", "j", runtime.NumCPU(), "run at most `N` cells at a time, fewer where memory is short")
	flags.StringSliceVar(&f.with, "with", nil, "run with these `MITIGATIONS` as well; all is each that a scenario has")
	flags.BoolVar(&f.live, "live", false, "with --with: change the network while connections are idle, not before they exist")
	flags.StringArrayVar(&f.set, "set", nil, "change a setting of every scenario, `KEY=VALUE`; may be repeated")
	flags.StringVar(&f.shard, "shard", "", "run one part only, `I/N`: the I-th of N")
	flags.StringVar(&f.out, "out", "", "write result.json and junit.xml into the directory `DIR`, and what run leaves of each cell below it")
	formatFlag(c, &f.format, matrixFormats()...)
	complete(c, "kernels", completeKernels)
	complete(c, "accel", fixed(accelerators()...))
	complete(c, "jobs", fixed())
	complete(c, "with", ofScenario(func(s scenario.Scenario) []cobra.Completion {
		return append(mitigationNames(s), cobra.CompletionWithDesc("all", "each that the scenario has"))
	}, cobra.ShellCompDirectiveNoSpace))
	complete(c, "set", ofScenario(settingKeys, cobra.ShellCompDirectiveNoSpace))
	complete(c, "shard", fixed())
	if err := errors.Join(c.MarkFlagDirname("out"), c.MarkFlagRequired("kernels")); err != nil {
		panic(err) // there is no such flag
	}
	return c
}

func (f matrixFlags) run(c *cobra.Command, scenarios []string) error {
	if err := checkFormat(f.format, matrixFormats()...); err != nil {
		return err
	}
	shard, err := matrix.ParseShard(f.shard)
	if err != nil {
		return usage(fmt.Errorf("--%w", err))
	}
	if f.jobs < 1 {
		return usage(fmt.Errorf("--jobs %d: must be 1 or more", f.jobs))
	}
	plan, err := f.plan(scenarios)
	if err != nil {
		return err
	}
	if err := prepareOut(f.out); err != nil {
		return usage(err)
	}
	begun := time.Now()
	shown := newProgress(1)
	cells := shard.Of(plan)
	kernels := f.findKernels(c.Context(), cells, shown)
	board := &board{progress: shown, doing: map[int]string{}, cells: len(cells)}
	ran := matrix.Run(c.Context(), cells, matrix.Options{
		Jobs: f.jobs,
		Room: func() bool { return matrix.Memory(guestRoomMiB) },
	}, func(ctx context.Context, cell *record.Cell) { f.runCell(ctx, cell, kernels[cell.Kernel], board) })
	shown.clear()
	if err := context.Cause(c.Context()); err != nil {
		return err //nolint:wrapcheck // an *interruptError
	}
	m := matrix.New(ran, shard, len(plan))
	m.Started, m.Duration = begun.UTC(), record.Millis(time.Since(begun))
	if err := writeForms(c.OutOrStdout(), f.out, f.format, m, matrixForms()); err != nil {
		return &exitError{record.ExitError, err}
	}
	if m.Verdict != record.Pass {
		return &exitError{code: m.Verdict.ExitCode()} // the cells have said why
	}
	return nil
}

// guestRoomMiB is what one guest takes: its memory, and that of its emulator.
const guestRoomMiB = guest.DefaultMemoryMiB + 192

// plan is the whole matrix. Each scenario and mitigation in it exists.
func (f matrixFlags) plan(names []string) ([]record.Cell, error) {
	kernels := matrix.Kernels(f.kernels)
	if len(kernels) == 0 {
		return nil, usage(errors.New("--kernels: names none; write for example 5.10,6.1"))
	}
	if f.live && len(f.with) == 0 {
		return nil, usage(errors.New("--live: says when to make the changes of --with, which is not given"))
	}
	var scenarios []matrix.Scenario
	for _, name := range names {
		s, _, err := runFlags{set: f.set}.scenario(name)
		if err != nil {
			return nil, err
		}
		column := matrix.Scenario{Name: name, With: []string{""}, Live: f.live}
		for _, with := range f.with {
			if with != "all" {
				column.With = append(column.With, with)
				continue
			}
			for _, m := range s.Mitigations {
				column.With = append(column.With, m.Name)
			}
		}
		for _, with := range column.With[1:] {
			if _, err := s.With(with, f.live); err != nil {
				return nil, usage(err)
			}
		}
		scenarios = append(scenarios, column)
	}
	return matrix.Plan(scenarios, kernels), nil
}

// found is where the cells of one kernel run, or why they cannot.
type found struct {
	place  place
	reason string
	err    error
}

// findKernels finds, or fetches, each kernel of the cells, one after the other.
func (f matrixFlags) findKernels(ctx context.Context, cells []record.Cell, shown *progress) map[string]found {
	kernels := map[string]found{}
	for _, c := range cells {
		if _, ok := kernels[c.Kernel]; ok || ctx.Err() != nil {
			continue
		}
		place, reason, err := f.flags(c).kernelPlace(ctx, shown)
		kernels[c.Kernel] = found{place, reason, err}
	}
	return kernels
}

// flags are those that make run run the cell.
func (f matrixFlags) flags(c record.Cell) runFlags {
	return runFlags{
		on: "auto", kernel: kernelFlags{c.Kernel, f.accel}, with: c.With, live: c.Live, set: f.set, repeat: 1,
	}
}

// runCell runs one cell and fills it in.
func (f matrixFlags) runCell(ctx context.Context, c *record.Cell, at found, b *board) {
	flags := f.flags(*c)
	s, file, err := flags.scenario(c.Scenario)
	failed := record.Result{
		Schema: record.Schema, Scenario: s.Name, Started: time.Now().UTC(), Verdict: record.Error, Partial: true,
		Settings: flags.settings(s), Runtime: record.Runtime{KernelRef: c.Kernel},
	}
	if f.out != "" {
		c.Directory = filepath.Join("cells", fmt.Sprintf("%03d", c.Index))
		flags.out = filepath.Join(f.out, c.Directory)
	}
	begun := time.Now()
	var (
		made outcome
		r    record.Result
	)
	if err := errors.Join(err, at.err); err != nil {
		r = failed
		var lacks *kernel.LackError
		if errors.As(err, &lacks) {
			r.Verdict = record.Unsupported
		}
		r.Reasons = []string{cause(err).Error()}
	} else {
		made = at.place.run(ctx, order{s, file, flags, at.reason, &progress{runs: 1, run: 1, say: func(text string) { b.does(*c, text) }}})
		r = made.results[0]
		r.Phases = append(made.phases, r.Phases...)
	}
	r.Duration = record.Millis(time.Since(begun))
	if f.out != "" {
		err := writeFiles(flags.out, r, resultForms())
		if len(made.results) > 0 {
			err = errors.Join(err, made.saveCapture(flags.out))
		}
		if err != nil {
			r.Verdict, r.Reasons = record.Error, append(r.Reasons, err.Error())
		}
	}
	c.Fill(r)
	c.Reproduce = report.Command(r)
	b.ended(*c)
}

// cause is err without the exit code that it has for a command.
func cause(err error) error {
	var exit *exitError
	if errors.As(err, &exit) && exit.err != nil {
		return exit.err
	}
	return err
}

// board shows what all cells under way do: on one line of a terminal; elsewhere
// only how each ended.
type board struct {
	*progress
	cells int

	mu    sync.Mutex
	done  int
	order []int
	doing map[int]string
}

func (b *board) does(c record.Cell, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.doing[c.Index]; !ok {
		b.order = append(b.order, c.Index)
	}
	b.doing[c.Index] = c.Kernel + ": " + text
	b.show()
}

// show is called with b locked.
func (b *board) show() {
	if !b.terminal {
		return
	}
	line := fmt.Sprintf("%d of %d", b.done, b.cells)
	for _, i := range b.order {
		if text, ok := b.doing[i]; ok {
			line += "  " + text
		}
	}
	b.print(line)
}

func (b *board) ended(c record.Cell) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.doing, c.Index)
	b.done++
	if b.terminal {
		b.show()
		return
	}
	text := fmt.Sprintf("%d of %d  %s on %s  %s", b.done, b.cells, matrix.Label(c), c.Kernel, c.Verdict)
	for _, q := range c.Requests {
		text += fmt.Sprintf("  %s %s %.1f ms", q.Name, q.Class, q.Latency)
	}
	b.print(text)
}

// completeKernels completes the last of several references.
func completeKernels(c *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
	before := word[:strings.LastIndex(word, ",")+1]
	list, directive := completeKernel(c, args, word)
	for i := range list {
		list[i] = before + list[i]
	}
	return list, directive | cobra.ShellCompDirectiveNoSpace
}
