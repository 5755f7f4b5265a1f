// A series as a page: how the latencies of all runs are distributed, and the
// telling run packet by packet.

package report

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/pmtulab/pmtulab/lab/ladder"
	"github.com/pmtulab/pmtulab/lab/record"
)

// SeriesHTML writes s as a single file, as HTML does for one result.
func SeriesHTML(w io.Writer, s record.Series) error {
	p := newPage(tellingRun(s))
	p.Lede, p.Command = seriesLede(s), reproduceSeries(s)
	p.Run = fmt.Sprintf("run %d of %d", s.Telling, len(s.Runs))
	p.strips(s)
	return p.write(w)
}

// tellingRun is the run of s that has kept its timeline, with the verdict, the
// expectations and the time of the whole series.
func tellingRun(s record.Series) record.Result {
	r := s.Runs[s.Telling-1]
	r.Verdict, r.Reasons, r.Partial, r.Duration = s.Verdict, s.Reasons, s.Partial, s.Duration
	r.Phases = append(slices.Clone(s.Phases), r.Phases...)
	r.Expectations = nil
	for _, x := range s.Expectations {
		actual := fmt.Sprintf("in all %d runs", x.Runs)
		if x.Met < x.Runs {
			actual = fmt.Sprintf("in %d of %d runs; run %d measured %s", x.Met, x.Runs, x.FirstUnmet, x.Actual)
		}
		r.Expectations = append(r.Expectations, record.Expectation{Name: x.Name, Limit: x.Limit, Actual: actual, OK: x.Met == x.Runs})
	}
	return r
}

// seriesLede is a sentence about what became of each request.
func seriesLede(s record.Series) string {
	var clauses []string
	for _, q := range s.Requests {
		var classes []string
		for _, c := range q.Classes {
			classes = append(classes, fmt.Sprintf("%s in %d", c.Class, c.Runs))
		}
		clauses = append(clauses, q.Name+" was "+enumerate(classes))
	}
	if len(clauses) == 0 {
		return fmt.Sprintf("No request was made in %d runs.", len(s.Runs))
	}
	return fmt.Sprintf("Of %d runs, request %s.", len(s.Runs), strings.Join(clauses, "; "))
}

// strip is the latencies of one class of one request, on the scale of all.
type strip struct {
	Name string
	record.ClassShare
	// Marks are the runs, one for those that are at the same place; Median is
	// that of Latency.
	Marks  []mark
	Median ladder.Percent
}

// Percent is Share as a percentage.
func (s strip) Percent() float64 { return 100 * s.Share }

// strips places the latencies of s.
func (p *page) strips(s record.Series) {
	longest := record.Ms(0)
	for _, q := range s.Requests {
		if q.Latency != nil {
			longest = max(longest, q.Latency.Max)
		}
	}
	p.SeriesTicks = scaleMarks(longest)
	for _, q := range s.Requests {
		for i, c := range q.Classes {
			row := strip{ClassShare: c}
			if i == 0 {
				row.Name = q.Name
			}
			if c.Latency != nil {
				row.Median = onScale(c.Latency.P50, longest)
			}
			row.Marks = latencyMarks(s.Runs, q.Name, c.Class, longest)
			p.Strips = append(p.Strips, row)
		}
	}
}

// latencyMarks has a mark for each place on the scale where a run is.
func latencyMarks(runs []record.Result, request string, class record.Class, longest record.Ms) []mark {
	const places = 400 // that can be told apart
	var marks []mark
	count := map[int]int{}
	for i, r := range runs {
		for _, q := range r.Requests {
			if q.Name != request || q.Class != class || q.Status == 0 {
				continue
			}
			x := onScale(q.Latency, longest)
			place := int(x * places / 100)
			if count[place]++; count[place] == 1 {
				marks = append(marks, mark{x, fmt.Sprintf("run %d: %s", i+1, shortMs(q.Latency))})
			}
		}
	}
	return marks
}
