package main

import (
	"io"
	"maps"

	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/report"
)

// forms are what a result, a series or a matrix can be written as; nil is what it
// cannot.
type forms[T any] struct {
	json, junit, html, markdown func(io.Writer, T) error
	styled                      func(io.Writer, T, report.Style) error
}

func resultForms() forms[record.Result] {
	return forms[record.Result]{report.JSON[record.Result], report.JUnit, report.HTML, report.Markdown, report.Terminal}
}

func seriesForms() forms[record.Series] {
	return forms[record.Series]{report.JSON[record.Series], report.SeriesJUnit, report.SeriesHTML, report.SeriesMarkdown, report.Series}
}

// text writes v for stdout.
func (f forms[T]) text(w io.Writer, v T) error { return f.styled(w, v, style()) }

// named are the values of --format.
func (f forms[T]) named() map[string]func(io.Writer, T) error {
	all := map[string]func(io.Writer, T) error{
		"text": f.text, "json": f.json, "junit": f.junit, "html": f.html, "markdown": f.markdown,
	}
	maps.DeleteFunc(all, func(_ string, form func(io.Writer, T) error) bool { return form == nil })
	return all
}

// derived are the files that go beside result.json.
func (f forms[T]) derived() map[string]func(io.Writer, T) error {
	files := map[string]func(io.Writer, T) error{"junit.xml": f.junit}
	if f.html != nil {
		files["report.html"] = f.html
	}
	return files
}
