// Package series looks at several runs of a scenario together: how often each
// request had which outcome, how its latency is distributed, and how two lots of
// runs differ. It is pure, and builds on every operating system.
package series

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/pmtulab/pmtulab/lab/record"
)

// Ends tells whether a run with verdict v ends its series: the runs after it
// would end like it.
func Ends(v record.Verdict) bool { return v == record.Error || v == record.Unsupported }

// New makes a series of results, one at least, of which wanted were asked for.
// It keeps results, and takes from them what a series has once.
func New(wanted int, results []record.Result) record.Series {
	first, last := results[0], results[len(results)-1]
	s := record.Series{
		Schema: record.SeriesSchema, Scenario: first.Scenario, Verdict: first.Verdict,
		Wanted: wanted, Partial: last.Partial || len(results) < wanted,
		Started: first.Started, Runtime: first.Runtime, Settings: first.Settings,
		Verdicts: map[record.Verdict]int{}, Telling: 1, Runs: results,
	}
	for i, r := range results {
		s.Duration += r.Duration
		s.Verdicts[r.Verdict]++
		if r.Verdict.Worse(s.Verdict) {
			s.Verdict, s.Telling = r.Verdict, i+1
		}
	}
	for i := range results {
		if r := &results[i]; i+1 != s.Telling {
			r.Timeline = nil
			r.Drawing, r.Links, r.Arithmetic, r.Conclusion = nil, nil, nil, nil // much the same in each
		}
	}
	if s.Partial && !Ends(s.Verdict) {
		s.Verdict = record.Error
	}
	s.Requests, s.Expectations = requests(results), expectations(results)
	s.Reasons = reasons(s)
	return s
}

// requests gathers what became of each request, in the order in which they were
// first made.
func requests(results []record.Result) []record.RequestSeries {
	type outcome struct {
		runs      int
		latencies []record.Ms
	}
	out := []record.RequestSeries{}
	index := map[string]int{}
	all := []outcome{}
	classes := []map[record.Class]*outcome{}
	for _, r := range results {
		for _, q := range r.Requests {
			i, known := index[q.Name]
			if !known {
				i = len(out)
				index[q.Name] = i
				out, all, classes = append(out, record.RequestSeries{Name: q.Name}), append(all, outcome{}), append(classes, map[record.Class]*outcome{})
			}
			if classes[i][q.Class] == nil {
				classes[i][q.Class] = &outcome{}
			}
			for _, o := range []*outcome{&all[i], classes[i][q.Class]} {
				o.runs++
				if q.Status != 0 {
					o.latencies = append(o.latencies, q.Latency)
				}
			}
		}
	}
	for i := range out {
		s := &out[i]
		s.Runs, s.Failed, s.Latency = all[i].runs, all[i].runs-len(all[i].latencies), distribution(all[i].latencies)
		for class, o := range classes[i] {
			s.Classes = append(s.Classes, record.ClassShare{
				Class: class, Runs: o.runs, Share: float64(o.runs) / float64(s.Runs), Latency: distribution(o.latencies),
			})
		}
		slices.SortFunc(s.Classes, func(a, b record.ClassShare) int {
			return cmp.Or(cmp.Compare(b.Runs, a.Runs), cmp.Compare(a.Class, b.Class))
		})
	}
	return out
}

// distribution describes times; nil when there are none.
func distribution(times []record.Ms) *record.Distribution {
	n := len(times)
	if n == 0 {
		return nil
	}
	slices.Sort(times)
	rank := func(percent int) record.Ms { return times[(n*percent+99)/100-1] }
	d := &record.Distribution{N: n, Min: times[0], P50: rank(50), Max: times[n-1]}
	if n >= 10 {
		d.P90 = rank(90)
	}
	if n >= 100 {
		d.P99 = rank(99)
	}
	return d
}

// expectations gathers how often each was met, in the order in which they were
// first checked.
func expectations(results []record.Result) []record.ExpectationSeries {
	out := []record.ExpectationSeries{}
	index := map[string]int{}
	for i, r := range results {
		for _, x := range r.Expectations {
			at, known := index[x.Name]
			if !known {
				at = len(out)
				index[x.Name] = at
				out = append(out, record.ExpectationSeries{Name: x.Name, Limit: x.Limit})
			}
			s := &out[at]
			s.Runs++
			switch {
			case x.OK:
				s.Met++
			case s.FirstUnmet == 0:
				s.FirstUnmet, s.Actual = i+1, x.Actual
			}
		}
	}
	return out
}

// reasons says why some of the runs did not pass.
func reasons(s record.Series) []string {
	var out []string
	for _, x := range s.Expectations {
		if x.Met < x.Runs {
			out = append(out, fmt.Sprintf("%s: expected %s, not met in %d of %d runs; run %d measured %s",
				x.Name, x.Limit, x.Runs-x.Met, x.Runs, x.FirstUnmet, x.Actual))
		}
	}
	told := map[record.Verdict]bool{record.Pass: true, record.Fail: true}
	for i, r := range s.Runs {
		if !told[r.Verdict] {
			told[r.Verdict] = true
			out = append(out, fmt.Sprintf("verdict %s in %d of %d runs; run %d: %s",
				r.Verdict, s.Verdicts[r.Verdict], len(s.Runs), i+1, strings.Join(r.Reasons, "; ")))
		}
	}
	if len(s.Runs) < s.Wanted {
		out = append(out, fmt.Sprintf("%d of %d runs were made", len(s.Runs), s.Wanted))
	}
	return out
}
