package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/report"
	"github.com/pmtulab/pmtulab/lab/series"
)

func compareCommand() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "compare OLD NEW",
		Short: "Say what changed between two results",
		Long: `Compare says how two results differ, each a result.json or the directory that
run --out made, of one run or of a series: in what was run (kernel, place,
settings), in what came of it (verdict, class and MSS of each request, PMTU
exceptions, expectations, ICMP and fragmentation counters), and in latencies.

What came of a run follows from evidence, so one run on each side is enough to
say that it differs. Latencies and other counters depend on timing: they take
several runs on each side (run --repeat), and ~ marks what may well be chance
(Mann-Whitney U-test, p >= 0.05). They do not change the exit code.

Exit codes: 0 the same came of it, 1 it differs, 2 wrong usage or input.`,
		Example: `  pmtulab run --repeat 20 --out before
  pmtulab run --repeat 20 --with server-advmss --out after
  pmtulab compare before after
  pmtulab compare before/result.json after/result.json --format json`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkFormat(format, textOrJSON()...); err != nil {
				return err
			}
			var sides [2]record.Series
			for i, path := range args {
				var err error
				if sides[i], err = readSeries(path); err != nil {
					return usage(err)
				}
			}
			comparison := series.Compare(args[0], sides[0], args[1], sides[1])
			var err error
			if format == "json" {
				err = report.JSON(c.OutOrStdout(), comparison)
			} else {
				err = report.Comparison(c.OutOrStdout(), comparison, style())
			}
			switch {
			case err != nil:
				return &exitError{record.ExitError, err}
			case !comparison.Same:
				return &exitError{code: record.ExitFail}
			}
			return nil
		},
	}
	formatFlag(c, &format, textOrJSON()...)
	return c
}

// readSeries reads a result or series from a file, or from the directory that
// run --out made.
func readSeries(path string) (record.Series, error) {
	path, d, err := readDocument(path)
	if err != nil {
		return record.Series{}, err
	}
	return series.Decode(path, d) //nolint:wrapcheck // names the file and the place
}

// readDocument reads a JSON form from a file, or from the directory that --out
// has made, and says which file it is.
func readDocument(path string) (string, record.Document, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, "result.json")
	}
	f, err := os.Open(path)
	if err != nil {
		return path, record.Document{}, fmt.Errorf("read a result: %w", err)
	}
	defer f.Close()
	d, err := record.ReadDocument(path, f)
	return path, d, err //nolint:wrapcheck // names the file and the place
}
