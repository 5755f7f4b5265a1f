package report

import (
	"io"
	"testing"

	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/series"
)

func TestComparison(t *testing.T) {
	slower := runs(t, 12)
	for i := range slower {
		r := &slower[i]
		r.Runtime.Kernel, r.Settings = "6.12.1", map[string]string{"mtu": "1500", "segments": "1", "with": "server-advmss"}
		r.Requests[1].Class, r.Requests[1].Latency = record.Clean, 1.4+record.Ms(i%3)
		r.Requests[1].Counters["client"] = map[string]int64{"Tcp.InSegs": int64(5 + i%2), "Tcp.OutSegs": 4}
		r.Expectations = r.Expectations[:4]
		r.Expectations[3].OK = false
	}
	once := runs(t, 1)
	once[0].Verdict, once[0].Scenario = record.Inconclusive, "evil\x1b[2J\u202eliar"
	old := series.New(12, runs(t, 12))
	for name, c := range map[string]record.Comparison{
		"comparison-same":   series.Compare("before", old, "after", old),
		"comparison-differ": series.Compare("before", old, "after", series.New(12, slower)),
		"comparison-once":   series.Compare("before", old, "after\n", series.New(1, once)),
	} {
		t.Run(name, func(t *testing.T) {
			text(t, name, func(w io.Writer, style Style) error { return Comparison(w, c, style) })
		})
	}
}
