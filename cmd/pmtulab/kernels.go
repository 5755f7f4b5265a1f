package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/pmtulab/pmtulab/lab/kernel"
	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/report"
)

func kernelsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "kernels",
		Short: "List, fetch and remove the kernels that a guest can have",
		Long: `Kernels come from the Debian archive, whose suites hold those of many years,
from packages of any distribution that packs .deb, or from files. REF is one of

    6.12, 7              the newest of these numbers
    6.12.43, 6.12.43-1   this version
    newest               the newest of all
    uml, uml/5.10        User-Mode Linux: the newest, the newest of a series
    DIR/a.deb            a package, with those beside it that belong to it
    a.deb+b.deb          these packages
    IMAGE,modules=DIR    a kernel image and the directory of its modules
    DIR                  a directory that holds both, or a built kernel tree

They are kept in pmtulab of $XDG_CACHE_HOME or ~/.cache. The archive is read
through the apt of this system, from its mirror and with its signature checks,
but with a state of its own: no right to anything else is needed.`,
		Example: `  pmtulab kernels ls
  pmtulab kernels pull 6.1 6.12 uml/5.10
  pmtulab kernels prune --older 30d`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(kernelsListCommand(), kernelsPullCommand(), kernelsPruneCommand())
	return c
}

// kernelsFlags are common to ls and pull.
type kernelsFlags struct {
	mirror  string
	refresh bool
}

func (f *kernelsFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.mirror, "mirror", "", "read from the Debian mirror at `URL`, not from that of this system")
	complete(c, "mirror", cobra.NoFileCompletions)
	c.Flags().BoolVar(&f.refresh, "refresh", false, "read the package lists again; they serve for a day")
}

func kernelsListCommand() *cobra.Command {
	var (
		f       kernelsFlags
		all     bool
		offline bool
		format  string
	)
	c := &cobra.Command{
		Use:   "ls",
		Short: "List the kernels that are cached, and those that can be pulled",
		Long: `Ls lists the newest kernel of each series in the Debian archive, and all that
are cached. It reads the package lists when they are older than a day: 40 MB the
first time.`,
		Example: `  pmtulab kernels ls
  pmtulab kernels ls --offline
  pmtulab kernels ls --all --format json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkFormat(format, textOrJSON()...); err != nil {
				return err
			}
			shown := newProgress(1)
			cache := kernel.Cache{Mirror: f.mirror, Offline: offline, Progress: shown.pulling()}
			kernels, err := cache.Survey(c.Context(), kernel.SurveyOptions{All: all, Refresh: f.refresh})
			shown.clear()
			if err != nil {
				return kernelError(err)
			}
			for _, problem := range kernels.Problems {
				fmt.Fprintln(c.ErrOrStderr(), "pmtulab:", problem)
			}
			if format == "json" {
				err = report.JSON(c.OutOrStdout(), kernels)
			} else {
				err = report.Kernels(c.OutOrStdout(), kernels, time.Now(), style())
			}
			if err != nil {
				return &exitError{record.ExitError, err}
			}
			return nil
		},
	}
	f.add(c)
	c.Flags().BoolVar(&all, "all", false, "list every version, not only the newest of each series")
	c.Flags().BoolVar(&offline, "offline", false, "do not use the network: list what is known")
	formatFlag(c, &format, textOrJSON()...)
	return c
}

func kernelsPullCommand() *cobra.Command {
	var f kernelsFlags
	c := &cobra.Command{
		Use:   "pull REF…",
		Short: "Fetch kernels, so that they can be used without the network",
		Long: `Pull fetches kernels and unpacks what a guest needs of them. It prints one line
for each: reference, release, and image. See pmtulab kernels --help about REF.`,
		Example: `  pmtulab kernels pull 6.12
  pmtulab kernels pull uml/6.1 5.10.262-1
  pmtulab kernels pull linux-image-6.8.0-31-generic_6.8.0-31.31_amd64.deb`,
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: completeKernel,
		RunE: func(c *cobra.Command, args []string) error {
			shown := newProgress(1)
			cache := kernel.Cache{Mirror: f.mirror, Progress: shown.pulling()}
			if f.refresh {
				if _, err := cache.Catalogue(c.Context(), true); err != nil {
					return kernelError(err)
				}
			}
			var failed []error
			for _, ref := range args {
				k, err := cache.Pull(c.Context(), ref)
				shown.clear()
				if err == nil {
					fmt.Fprintf(c.OutOrStdout(), "%s  %s  %s\n", ref, k.Release, k.Image)
					err = k.Check(kernel.LabFeatures()...)
				}
				var lacks *kernel.LackError
				if errors.As(err, &lacks) {
					fmt.Fprintln(c.ErrOrStderr(), "pmtulab: no lab runs on it:", lacks)
				} else if err != nil {
					failed = append(failed, err)
				}
			}
			return kernelError(errors.Join(failed...))
		},
	}
	f.add(c)
	return c
}

func kernelsPruneCommand() *cobra.Command {
	var (
		older, largest string
		o              = kernel.PruneOptions{Max: -1}
	)
	c := &cobra.Command{
		Use:   "prune",
		Short: "Remove kernels that were not used lately, or take too much room",
		Long: `Prune removes what was not used for some time, then, if what is left takes more
than --max, what was used least recently. What interrupted pulls left goes in
any case.`,
		Example: `  pmtulab kernels prune --dry-run
  pmtulab kernels prune --older 7d --max 2GB`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if o.Older, err = parseAge(older); err != nil {
				return usage(fmt.Errorf("--older %s: %w", older, err))
			}
			if largest != "" {
				if o.Max, err = units.FromHumanSize(largest); err != nil {
					return usage(fmt.Errorf("--max %s: must be a size such as 500MB or 2GB", largest))
				}
			}
			var cache kernel.Cache
			removed, err := cache.Prune(c.Context(), o)
			var total int64
			verb := "removed"
			if o.DryRun {
				verb = "would remove"
			}
			for _, r := range removed {
				total += r.Bytes
				fmt.Fprintf(c.OutOrStdout(), "%s %s, %s\n", verb, r.What, units.HumanSize(float64(r.Bytes)))
			}
			fmt.Fprintf(c.OutOrStdout(), "%s %s\n", verb, units.HumanSize(float64(total)))
			return kernelError(err)
		},
	}
	c.Flags().StringVar(&older, "older", "30d", "remove what was not used for this `TIME`, such as 12h or 30d; 0 is no limit")
	complete(c, "older", fixed("1d", "7d", "30d"))
	c.Flags().StringVar(&largest, "max", "", "keep at most this `SIZE`, such as 500MB or 2GB")
	complete(c, "max", fixed("500MB", "2GB", "10GB"))
	c.Flags().BoolVar(&o.DryRun, "dry-run", false, "only say what would be removed")
	return c
}

// parseAge reads a duration, in which d is a day.
func parseAge(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	age, err := time.ParseDuration(text)
	if err != nil || age < 0 {
		return 0, errors.New("must be a time such as 12h or 30d")
	}
	return age, nil
}

// completeKernel completes references to kernels that are known by now.
func completeKernel(c *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	cache := kernel.Cache{Offline: true}
	kernels, err := cache.Survey(context.WithoutCancel(c.Context()), kernel.SurveyOptions{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var out []cobra.Completion
	for _, k := range kernels.Kernels {
		out = append(out, cobra.CompletionWithDesc(k.Ref, "Linux "+k.Release))
	}
	return out, cobra.ShellCompDirectiveDefault
}

// pulling shows the steps of a pull: with their progress on a terminal, once
// each elsewhere.
func (p *progress) pulling() func(kernel.Progress) {
	const interval = 100 * time.Millisecond
	var (
		step string
		last time.Time
	)
	return func(k kernel.Progress) {
		text := k.Step
		if p.terminal {
			text = fmt.Sprintf("%s  %3.0f%%", k.Step, 100*k.Fraction)
		}
		if k.Step != step || p.terminal && time.Since(last) > interval {
			p.print(text)
			step, last = k.Step, time.Now()
		}
	}
}
