package record

import "time"

// SeriesSchema names the JSON form of Series.
const SeriesSchema = "pmtulab/series/v1"

// Series is what several runs of one scenario have in common, each of which had
// a fresh network.
type Series struct {
	Schema   string `json:"schema"`
	Scenario string `json:"scenario"`
	// Verdict is the worst of the runs', by Verdict.Worse; Error when runs are
	// missing.
	Verdict Verdict `json:"verdict"`
	// Reasons says why the verdict is not Pass, one sentence each.
	Reasons []string `json:"reasons,omitempty"`
	// Wanted is how many runs were asked for; Runs has fewer when Partial.
	Wanted   int               `json:"wanted"`
	Partial  bool              `json:"partial,omitempty"`
	Started  time.Time         `json:"started"`
	Duration Ms                `json:"duration_ms"`
	Runtime  Runtime           `json:"runtime"`
	Settings map[string]string `json:"settings,omitempty"`
	// Verdicts counts the runs of each verdict.
	Verdicts map[Verdict]int `json:"verdicts"`
	// Requests tell what became of each request, in the order of the scenario.
	Requests []RequestSeries `json:"requests"`
	// Expectations tell how often each was met, in the order of the scenario.
	Expectations []ExpectationSeries `json:"expectations"`
	// Telling is the number, counted from 1, of the first run with the worst
	// verdict. It alone has kept its timeline, drawing, links, arithmetic and
	// conclusion.
	Telling int `json:"telling"`
	// Runs are the results, in order.
	Runs []Result `json:"runs"`
	// Phases is where the time around the runs went, in a guest.
	Phases []Phase `json:"phases,omitempty"`
}

// RequestSeries is what became of one request in all runs.
type RequestSeries struct {
	Name string `json:"name"`
	// Runs is in how many runs it was made, Failed in how many of them it had
	// no response.
	Runs   int `json:"runs"`
	Failed int `json:"failed,omitempty"`
	// Latency is that of the requests with a response.
	Latency *Distribution `json:"latency_ms,omitempty"`
	// Classes are the classes that occurred, the most frequent first.
	Classes []ClassShare `json:"classes"`
}

// ClassShare is how often a request had a class.
type ClassShare struct {
	Class Class `json:"class"`
	Runs  int   `json:"runs"`
	// Share is Runs in relation to those of the request, 0 to 1.
	Share   float64       `json:"share"`
	Latency *Distribution `json:"latency_ms,omitempty"`
}

// ExpectationSeries is how often an expectation was met.
type ExpectationSeries struct {
	Name  string `json:"name"`
	Limit string `json:"limit"`
	// Runs is in how many runs it was checked, Met in how many it held.
	Runs int `json:"runs"`
	Met  int `json:"met"`
	// FirstUnmet is the first run that did not meet it, counted from 1, and
	// Actual what was measured there.
	FirstUnmet int    `json:"first_unmet,omitempty"`
	Actual     string `json:"actual,omitempty"`
}

// Distribution describes a number of times by some of them: the percentile P is
// the smallest that P per cent do not exceed (the nearest rank).
type Distribution struct {
	N   int `json:"n"`
	Min Ms  `json:"min"`
	P50 Ms  `json:"p50"`
	// P90 is 0 for less than 10 times and P99 for less than 100: it would be
	// another name for Max.
	P90 Ms `json:"p90,omitempty"`
	P99 Ms `json:"p99,omitempty"`
	Max Ms `json:"max"`
}
