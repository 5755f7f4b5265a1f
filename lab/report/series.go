package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/pmtulab/pmtulab/lab/record"
)

// Series writes s as text for people: the outcomes and latencies of all runs,
// and, unless all passed, what happened in the telling one.
func Series(w io.Writer, s record.Series, style Style) error {
	p := newPrinter(style)
	p.line("%s  %s  %d runs  Linux %s on %s  %.1f s", p.bold(s.Scenario), p.verdict(s.Verdict), len(s.Runs), s.Runtime.Kernel, place(s.Runtime), s.Duration/1000)
	p.chosen(s.Runtime)
	p.verdicts(s)
	p.latencies(s.Requests)
	p.met(s.Expectations)
	telling := &terminal{printer: p, Result: s.Runs[s.Telling-1]}
	if s.Verdict == record.Pass {
		p.paragraphs("Conclusion of run 1", telling.Conclusion...)
		return p.writeTo(w)
	}
	if telling.Verdict != record.Pass {
		p.line("\n%s", p.bold(fmt.Sprintf("Run %d", s.Telling)))
		telling.requests()
	}
	p.paragraphs("Why the verdict is "+string(s.Verdict), s.Reasons...)
	return p.writeTo(w)
}

// verdicts says how many runs had which verdict, where they differ.
func (p *printer) verdicts(s record.Series) {
	if len(s.Verdicts) < 2 {
		return
	}
	var parts []string
	for _, v := range []record.Verdict{record.Pass, record.Fail, record.Inconclusive, record.Unsupported, record.Error} {
		if n := s.Verdicts[v]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, p.verdict(v)))
		}
	}
	p.line("%s", strings.Join(parts, ", "))
}

// latencies is a table with a row for each class of each request. Percentiles
// that no row has are left out.
func (p *printer) latencies(requests []record.RequestSeries) {
	if len(requests) == 0 {
		return
	}
	most := 0
	for _, q := range requests {
		if q.Latency != nil {
			most = max(most, q.Latency.N)
		}
	}
	head := []string{"request", "class", "runs", "share", "min", "p50"}
	if most >= 10 {
		head = append(head, "p90")
	}
	if most >= 100 {
		head = append(head, "p99")
	}
	rows := [][]string{append(head, "max")}
	var failed []string
	for _, q := range requests {
		for i, c := range q.Classes {
			name := q.Name
			if i > 0 {
				name = ""
			}
			row := []string{name, p.class(c.Class), fmt.Sprint(c.Runs), fmt.Sprintf("%.1f %%", 100*c.Share)}
			rows = append(rows, append(row, p.distribution(c.Latency, most)...))
		}
		if len(q.Classes) > 1 {
			rows = append(rows, append([]string{"", "all", fmt.Sprint(q.Runs), ""}, p.distribution(q.Latency, most)...))
		}
		if q.Failed > 0 {
			failed = append(failed, fmt.Sprintf("%s in %d of %d runs", q.Name, q.Failed, q.Runs))
		}
	}
	p.line("\n%s  %s", p.bold("What became of each request"), p.faint("latencies in ms"))
	p.table(rows, 2)
	if len(failed) > 0 {
		p.line("  %s", p.paint(red, "no response: "+strings.Join(failed, ", ")))
	}
}

// distribution is the rest of a row of latencies in a table of which the longest
// distribution has most values.
func (p *printer) distribution(d *record.Distribution, most int) []string {
	if d == nil {
		return nil
	}
	times := []record.Ms{d.Min, d.P50}
	if most >= 10 {
		times = append(times, d.P90)
	}
	if most >= 100 {
		times = append(times, d.P99)
	}
	var row []string
	for _, ms := range append(times, d.Max) {
		cell := fmt.Sprintf("%.1f", ms)
		if ms == 0 {
			cell = p.faint("·")
		}
		row = append(row, cell)
	}
	return row
}

// met says how many expectations held in every run, and lists the others.
func (p *printer) met(expectations []record.ExpectationSeries) {
	if len(expectations) == 0 {
		return
	}
	all := 0
	var lines []string
	for _, x := range expectations {
		if x.Met == x.Runs {
			all++
			continue
		}
		lines = append(lines, fmt.Sprintf("%s %s: met in %d of %d runs (%s); run %d measured %s",
			p.paint(red, "✗"), x.Name, x.Met, x.Runs, x.Limit, x.FirstUnmet, x.Actual))
	}
	p.line("\n%s", p.bold(fmt.Sprintf("Expectations: %d of %d met in every run", all, len(expectations))))
	for _, l := range lines {
		p.line("  %s", l)
	}
}
