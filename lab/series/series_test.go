package series

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pmtulab/pmtulab/lab/record"
)

// made is a result with one request.
func result(verdict record.Verdict, class record.Class, ms record.Ms, change ...func(*record.Result)) record.Result {
	status := 200
	if ms == 0 {
		status = 0
	}
	r := record.Result{
		Schema: record.Schema, Scenario: "s", Verdict: verdict, Runtime: record.Runtime{On: "host", Kernel: "6.1"},
		Drawing:  []string{"a ── b"},
		Requests: []record.Request{{Name: "A", Class: class, Latency: ms, Status: status, Bytes: 1448}},
		Timeline: []record.Event{{ID: "T1"}},
	}
	for _, f := range change {
		f(&r)
	}
	return r
}

func expecting(ok bool, actual string) func(*record.Result) {
	return func(r *record.Result) {
		r.Expectations = []record.Expectation{{Name: "class of request A", Limit: "clean", Actual: actual, OK: ok}}
	}
}

func because(reason string) func(*record.Result) {
	return func(r *record.Result) { r.Reasons = append(r.Reasons, reason) }
}

func TestNew(t *testing.T) {
	s := New(5, []record.Result{
		result(record.Pass, record.Clean, 2, expecting(true, "clean")),
		result(record.Inconclusive, record.Clean, 3, expecting(true, "clean"), because("evidence lost")),
		result(record.Fail, record.PMTUStall, 210, expecting(false, "pmtu-stall"), because("a stall")),
		result(record.Fail, record.BlackHole, 0, expecting(false, "black-hole"), because("a black hole")),
		result(record.Pass, record.Clean, 1, expecting(true, "clean")),
	})
	if s.Verdict != record.Fail || s.Telling != 3 || s.Partial {
		t.Errorf("verdict %s of run %d, partial %t", s.Verdict, s.Telling, s.Partial)
	}
	for i, r := range s.Runs {
		if whole := len(r.Timeline) > 0 && len(r.Drawing) > 0; whole != (i == 2) {
			t.Errorf("run %d has its timeline and drawing: %t", i+1, whole)
		}
	}
	want := []record.RequestSeries{{
		Name: "A", Runs: 5, Failed: 1, Latency: &record.Distribution{N: 4, Min: 1, P50: 2, Max: 210},
		Classes: []record.ClassShare{
			{Class: record.Clean, Runs: 3, Share: 0.6, Latency: &record.Distribution{N: 3, Min: 1, P50: 2, Max: 3}},
			{Class: record.BlackHole, Runs: 1, Share: 0.2},
			{Class: record.PMTUStall, Runs: 1, Share: 0.2, Latency: &record.Distribution{N: 1, Min: 210, P50: 210, Max: 210}},
		},
	}}
	if diff := cmp.Diff(want, s.Requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	reasons := []string{
		"class of request A: expected clean, not met in 2 of 5 runs; run 3 measured pmtu-stall",
		"verdict inconclusive in 1 of 5 runs; run 2: evidence lost",
	}
	if diff := cmp.Diff(reasons, s.Reasons); diff != "" {
		t.Errorf("reasons (-want +got):\n%s", diff)
	}
}

// A series that lacks runs is an error, whatever the others say.
func TestNewWithoutAllRuns(t *testing.T) {
	pass := result(record.Pass, record.Clean, 2)
	broken := result(record.Error, record.Clean, 2, because("no memory"), func(r *record.Result) { r.Partial = true })
	for _, c := range []struct {
		name    string
		results []record.Result
		reasons []string
	}{
		{"broken", []record.Result{pass, broken}, []string{"verdict error in 1 of 2 runs; run 2: no memory", "2 of 3 runs were made"}},
		{"interrupted", []record.Result{pass, pass}, []string{"2 of 3 runs were made"}},
	} {
		s := New(3, c.results)
		if diff := cmp.Diff(c.reasons, s.Reasons); s.Verdict != record.Error || !s.Partial || diff != "" {
			t.Errorf("%s: verdict %s, partial %t, reasons (-want +got):\n%s", c.name, s.Verdict, s.Partial, diff)
		}
	}
}

// Percentiles are nearest ranks, and only those that the number of values tells
// apart from the maximum.
func TestDistribution(t *testing.T) {
	times := func(n int) []record.Ms {
		out := make([]record.Ms, n)
		for i := range out {
			out[n-1-i] = record.Ms(i + 1)
		}
		return out
	}
	for n, want := range map[int]*record.Distribution{
		0:   nil,
		1:   {N: 1, Min: 1, P50: 1, Max: 1},
		2:   {N: 2, Min: 1, P50: 1, Max: 2},
		9:   {N: 9, Min: 1, P50: 5, Max: 9},
		10:  {N: 10, Min: 1, P50: 5, P90: 9, Max: 10},
		11:  {N: 11, Min: 1, P50: 6, P90: 10, Max: 11},
		100: {N: 100, Min: 1, P50: 50, P90: 90, P99: 99, Max: 100},
		300: {N: 300, Min: 1, P50: 150, P90: 270, P99: 297, Max: 300},
	} {
		if diff := cmp.Diff(want, distribution(times(n))); diff != "" {
			t.Errorf("%d times (-want +got):\n%s", n, diff)
		}
	}
}
