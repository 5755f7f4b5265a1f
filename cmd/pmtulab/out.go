package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/term"

	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/report"
	"github.com/pmtulab/pmtulab/lab/series"
)

// style is how text on stdout looks.
func style() report.Style {
	fd := int(os.Stdout.Fd())
	columns, _, err := term.GetSize(fd)
	if !term.IsTerminal(fd) || err != nil {
		columns = 0
	}
	return styleOf(columns, os.Getenv)
}

// styleOf is the style for a terminal of so many columns, 0 for none: in colour
// on a terminal that has some, unless NO_COLOR (no-color.org) or CLICOLOR_FORCE
// (bixense.com/clicolors) say otherwise, and as wide as the terminal, from 80 to
// 120 columns.
func styleOf(columns int, env func(string) string) report.Style {
	s := report.Style{Color: columns > 0 && env("TERM") != "dumb"}
	if force := env("CLICOLOR_FORCE"); force != "" && force != "0" {
		s.Color = true
	}
	if env("NO_COLOR") != "" {
		s.Color = false
	}
	if columns > 0 {
		s.Width = min(max(columns, 80), 120)
	}
	return s
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

// write puts what was made where the flags want it, one result or a series, and
// returns the verdict with its reasons.
func write(stdout io.Writer, f runFlags, made outcome, took time.Duration) (record.Verdict, []string, error) {
	if f.repeat == 1 {
		r := made.results[0]
		r.Phases = append(made.phases, r.Phases...)
		r.Duration = record.Millis(took)
		return r.Verdict, r.Reasons, errors.Join(made.saveCapture(f.out), writeForms(stdout, f.out, f.format, r, resultForms()))
	}
	s := series.New(f.repeat, made.results)
	s.Phases = made.phases
	s.Duration = record.Millis(took)
	return s.Verdict, s.Reasons, errors.Join(made.saveCapture(f.out), writeForms(stdout, f.out, f.format, s, seriesForms()))
}

// writeForms renders v into the files of the directory out, if there is one, and
// to stdout.
func writeForms[T any](stdout io.Writer, out, format string, v T, as forms[T]) error {
	if out != "" {
		if err := writeFiles(out, v, as); err != nil {
			return err
		}
	}
	return as.named()[format](stdout, v)
}

// writeFiles renders v into the files of the directory dir, which is made.
func writeFiles[T any](dir string, v T, as forms[T]) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	files := as.derived()
	files["result.json"] = as.json
	for name, render := range files {
		if err := writeFile(filepath.Join(dir, name), v, render); err != nil {
			return err
		}
	}
	return nil
}

// writeFile replaces path as a whole or not at all.
func writeFile[T any](path string, v T, render func(io.Writer, T) error) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), ".pmtulab-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	err = errors.Join(render(temporary, v), temporary.Chmod(0o644), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(temporary.Name())))
	}
	return nil
}
