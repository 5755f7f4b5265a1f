package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/pmtulab/pmtulab/lab/matrix"
	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/series"
)

func reportCommand() *cobra.Command {
	var format, out string
	formats := append(textOrJSON(),
		cobra.CompletionWithDesc("html", "a page of its own, with a picture of each request"),
		cobra.CompletionWithDesc("junit", "a test suite, for CI"),
		cobra.CompletionWithDesc("markdown", "a short summary, for CI"),
	)
	c := &cobra.Command{
		Use:   "report DIR…",
		Short: "Render saved results again, or put those of shards together",
		Long: `Report reads what run --out has left in each DIR, of one run or of a series.
Without --format it writes report.html and junit.xml beside it, and the result
as text to stdout. With --format it writes that form to stdout, and no file.

Of what matrix --shard has left in each DIR it makes one matrix. With --out it
writes that into a directory.

Exit codes: 0 rendered, whatever the verdict; 2 wrong usage, or a result that
cannot be read; 4 a file that cannot be written.`,
		Example: `  pmtulab report out
  pmtulab report part-1 part-2 --out whole
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
			return renderAgain(c.OutOrStdout(), paths, format, out)
		},
	}
	c.Flags().StringVar(&format, "format", "", "write `FORMAT` to stdout, and no file: "+either(words(formats)))
	c.Flags().StringVar(&out, "out", "", "write the matrix of all shards into the directory `DIR`")
	complete(c, "format", fixed(formats...))
	if err := c.MarkFlagDirname("out"); err != nil {
		panic(err) // there is no such flag
	}
	return c
}

// renderAgain renders the results of paths, directories that --out has made or
// files.
func renderAgain(stdout io.Writer, paths []string, format, out string) error {
	// All are read before any is rendered: what is wrong shows first.
	var (
		read   []record.Series
		shards []record.Matrix
		wrong  []error
	)
	for _, path := range paths {
		path, d, err := readDocument(path)
		switch {
		case err != nil:
		case d.Schema == record.MatrixSchema:
			var m record.Matrix
			m, err = matrix.Decode(path, d)
			shards = append(shards, m)
		default:
			var s record.Series
			s, err = series.Decode(path, d)
			read = append(read, s)
		}
		wrong = append(wrong, err)
	}
	err := errors.Join(wrong...)
	switch {
	case err != nil:
		return usage(err)
	case len(shards) > 0 && len(read) > 0:
		return usage(errors.New("results of matrix and of run together make no report; name those of one kind"))
	case len(shards) > 0:
		return renderMatrix(stdout, paths, shards, format, out)
	case out != "":
		return usage(errors.New("--out: is for the results of matrix; those of run are rendered where they are"))
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

// renderMatrix puts the shards of a matrix together, and renders that.
func renderMatrix(stdout io.Writer, paths []string, shards []record.Matrix, format, out string) error {
	m := shards[0]
	if len(shards) > 1 {
		var err error
		if m, err = matrix.Merge(shards); err != nil {
			return usage(err)
		}
	}
	as := matrixForms()
	if format != "" && as.named()[format] == nil {
		return usage(fmt.Errorf("--format %s: is no form of a matrix; there are %s", format, either(words(matrixFormats()))))
	}
	err := prepareOut(out)
	if err != nil {
		return usage(err)
	}
	switch {
	case out != "":
		// The cells' own results stay in the directories of their shards.
		for i := range m.Cells {
			m.Cells[i].Directory = ""
		}
		err = writeForms(stdout, out, cmp.Or(format, "text"), m, as)
	case len(paths) > 1:
		err = as.named()[cmp.Or(format, "text")](stdout, m)
	default:
		err = renderOne(stdout, paths[0], format, m, as)
	}
	if err != nil {
		return &exitError{record.ExitError, err}
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
