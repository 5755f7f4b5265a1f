package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"github.com/pmtulab/pmtulab/lab/record"
)

// Comparison writes c as text for people.
func Comparison(w io.Writer, c record.Comparison, style Style) error {
	p := newPrinter(style)
	for _, side := range []struct {
		name string
		record.Compared
	}{{"old", c.Old}, {"new", c.New}} {
		runs := "1 run"
		if side.Runs != 1 {
			runs = fmt.Sprintf("%d runs", side.Runs)
		}
		p.line("%s  %s  %s  %s  %s  Linux %s on %s", side.name, p.bold(printable(side.File)), printable(side.Scenario),
			p.verdict(record.Verdict(printable(string(side.Verdict)))), runs, printable(side.Runtime.Kernel), place(side.Runtime))
	}
	p.changes("What was run differs", "", c.Conditions)
	p.changes("What came of it differs", "~ may well be chance", c.Outcomes)
	p.latencyChanges(c.Latencies)
	p.changes("Other counters, beyond chance", "medians", c.Counters[:min(len(c.Counters), mostCounters)])
	if more := len(c.Counters) - mostCounters; more > 0 {
		p.line("  … and %d more, in the JSON form", more)
	}
	p.line("")
	shifted := slices.ContainsFunc(c.Latencies, func(l record.LatencyChange) bool { return !l.Noise })
	switch {
	case !c.Same:
		p.line("%s", p.paint(red, "The outcomes differ."))
	case shifted:
		p.line("%s", p.paint(green, "The outcomes are the same, but not the latencies."))
	default:
		p.line("%s", p.paint(green, "The outcomes are the same."))
	}
	for _, note := range c.Notes {
		p.hang(0, printable(note))
	}
	return p.writeTo(w)
}

// mostCounters is how many counters are shown: all of a request's change when it
// goes another way.
const mostCounters = 10

func (p *printer) changes(title, legend string, changes []record.Change) {
	if len(changes) == 0 {
		return
	}
	title = "\n" + p.bold(title)
	if legend != "" {
		title += "  " + p.faint(legend)
	}
	p.line("%s", title)
	for _, c := range changes {
		line := fmt.Sprintf("  %s: %s → %s", printable(c.Name), printable(c.Old), printable(c.New))
		if c.Noise {
			line = fmt.Sprintf("%s  ~ p=%.3f", line, *c.P)
		}
		p.line("%s", line)
	}
}

// latencyChanges is a table with a row for each request.
func (p *printer) latencyChanges(changes []record.LatencyChange) {
	if len(changes) == 0 {
		return
	}
	rows := [][]string{{"request", "old", "new", "change"}}
	for _, c := range changes {
		change := fmt.Sprintf("%+.0f %%  p=%.3f", 100*c.Delta, c.P)
		switch {
		case c.TooFew:
			change = fmt.Sprintf("~  n=%d+%d cannot tell", c.Old.N, c.New.N)
		case c.Noise:
			change = fmt.Sprintf("~  p=%.3f", c.P)
		}
		rows = append(rows, []string{printable(c.Request), interval(c.Old), interval(c.New), change})
	}
	p.line("\n%s  %s", p.bold("Latencies"), p.faint("median in ms, with the interval that holds it at 95 % confidence"))
	p.table(rows, len(rows[0]))
}

func interval(s record.LatencySample) string {
	text := fmt.Sprintf("%.1f", s.Median)
	if s.Low != nil && s.High != nil {
		text += fmt.Sprintf(" (%.1f–%.1f)", *s.Low, *s.High)
	}
	return text
}

// printable is s without characters that a terminal would act on: results come
// from files.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
