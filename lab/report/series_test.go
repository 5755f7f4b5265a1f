package report

import (
	"bytes"
	"encoding/xml"
	"io"
	"testing"

	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/series"
)

// runs are the recorded run, n times, a little slower each time.
func runs(t *testing.T, n int) []record.Result {
	t.Helper()
	var out []record.Result
	for i := range n {
		r := measured(t)
		for j := range r.Requests {
			r.Requests[j].Latency += record.Ms(i) / 10
		}
		out = append(out, r)
	}
	return out
}

// allSeries are series of the recorded run.
func allSeries(t *testing.T) map[string]record.Series {
	t.Helper()
	mixed := runs(t, 120)
	for _, i := range []int{40, 41, 99} {
		r := &mixed[i]
		r.Verdict, r.Reasons = record.Fail, []string{"class of request B: expected pmtu-stall, measured rescued"}
		r.Requests[1].Class, r.Requests[1].Latency = record.Rescued, 8.1
		r.Expectations[3].OK, r.Expectations[3].Actual = false, "rescued"
	}
	mixed[7].Verdict, mixed[7].Reasons = record.Inconclusive, []string{"evidence lost: packets of client: 3, the ring was full"}
	mixed[8].Requests[0].Status, mixed[8].Requests[0].Class = 0, record.BlackHole

	interrupted := runs(t, 2)
	return map[string]record.Series{
		"series-pass":    series.New(12, runs(t, 12)),
		"series-mixed":   series.New(120, mixed),
		"series-partial": series.New(50, interrupted),
	}
}

func TestSeries(t *testing.T) {
	for name, s := range allSeries(t) {
		t.Run(name, func(t *testing.T) {
			text(t, name, func(w io.Writer, style Style) error { return Series(w, s, style) })
			var out bytes.Buffer
			if err := SeriesJUnit(&out, s); err != nil {
				t.Fatal(err)
			}
			golden(t, name+".xml", out.Bytes())
			var suite struct {
				Failures int `xml:"failures,attr"`
				Errors   int `xml:"errors,attr"`
			}
			if err := xml.Unmarshal(out.Bytes(), &suite); err != nil {
				t.Fatal(err)
			}
			if good := suite.Failures+suite.Errors == 0; good != (s.Verdict == record.Pass) {
				t.Errorf("verdict %s, but the suite is %+v", s.Verdict, suite)
			}
		})
	}
}
