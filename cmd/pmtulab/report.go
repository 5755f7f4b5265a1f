package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/pmtulab/pmtulab/lab/record"
)

func reportCommand() *cobra.Command {
	var format string
	formats := append(textOrJSON(),
		cobra.CompletionWithDesc("html", "a page of its own, with a picture of each request"),
		cobra.CompletionWithDesc("junit", "a test suite, for CI"),
		cobra.CompletionWithDesc("markdown", "a short summary, for CI"),
	)
	c := &cobra.Command{
		Use:   "report DIR…",
		Short: "Render saved results again",
		Long: `Report reads what run --out has left in each DIR, of one run or of a series.
Without --format it writes report.html and junit.xml beside it, and the result
as text to stdout. With --format it writes that form to stdout, and no file.

Exit codes: 0 rendered, whatever the verdict; 2 wrong usage, or a result that
cannot be read; 4 a file that cannot be written.`,
		Example: `  pmtulab report out
  pmtulab report out --format markdown >> "$GITHUB_STEP_SUMMARY"`,
		Args: cobra.MinimumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
		RunE: func(c *cobra.Command, paths []string) error {
			if format != "" {
				if err := checkFormat(format, formats...); err != nil {
					return err
				}
			}
			if (format == "html" || format == "junit") && len(paths) > 1 {
				return usage(fmt.Errorf("--format %s: makes one document of one result; name one DIR, not %d", format, len(paths)))
			}
			return renderAgain(c.OutOrStdout(), paths, format)
		},
	}
	c.Flags().StringVar(&format, "format", "", "write `FORMAT` to stdout, and no file: "+either(words(formats)))
	complete(c, "format", fixed(formats...))
	return c
}

// renderAgain renders the results of paths, directories of run --out or files.
func renderAgain(stdout io.Writer, paths []string, format string) error {
	// All are read before any is rendered: what is wrong shows first.
	read := make([]record.Series, len(paths))
	wrong := make([]error, len(paths))
	for i, path := range paths {
		read[i], wrong[i] = readSeries(path)
	}
	if err := errors.Join(wrong...); err != nil {
		return usage(err)
	}
	for i, s := range read {
		if i > 0 && format != "json" {
			fmt.Fprintln(stdout)
		}
		var err error
		if s.Wanted == 1 {
			err = renderOne(stdout, paths[i], format, s.Runs[0], resultForms())
		} else {
			err = renderOne(stdout, paths[i], format, s, seriesForms())
		}
		if err != nil {
			return &exitError{record.ExitError, err}
		}
	}
	return nil
}

// renderOne writes v in the given form, or in all of them.
func renderOne[T any](stdout io.Writer, path, format string, v T, f forms[T]) error {
	if format != "" {
		return f.named()[format](stdout, v)
	}
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		path = filepath.Dir(path)
	}
	for name, render := range f.derived() {
		if err := writeFile(filepath.Join(path, name), v, render); err != nil {
			return err
		}
	}
	return f.text(stdout, v)
}
