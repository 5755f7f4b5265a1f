package record

// ComparisonSchema names the JSON form of Comparison.
const ComparisonSchema = "pmtulab/comparison/v1"

// Comparison is how two results or series differ.
type Comparison struct {
	Schema string   `json:"schema"`
	Old    Compared `json:"old"`
	New    Compared `json:"new"`
	// Same tells that no difference of the outcomes is more than chance.
	Same bool `json:"same"`
	// Conditions are the differences in what was run and where.
	Conditions []Change `json:"conditions"`
	// Outcomes are the differences in what came of it: verdicts, classes, MSS,
	// exceptions, expectations, ICMP and fragmentation counters.
	Outcomes []Change `json:"outcomes"`
	// Latencies compares each request that both have.
	Latencies []LatencyChange `json:"latencies"`
	// Counters are the other counters whose medians differ by more than chance,
	// the surest first. Their values depend on timing, so they say nothing about
	// Same.
	Counters []Change `json:"counters"`
	// Notes say what could not be told.
	Notes []string `json:"notes,omitempty"`
}

// Compared is one side of a comparison.
type Compared struct {
	// File is where it was read from.
	File     string  `json:"file"`
	Scenario string  `json:"scenario"`
	Verdict  Verdict `json:"verdict"`
	// Runs is how many of its runs are compared: those that passed or failed,
	// if there are any. LeftOut is how many are not.
	Runs    int     `json:"runs"`
	LeftOut int     `json:"left_out,omitempty"`
	Runtime Runtime `json:"runtime"`
}

// Change is one thing that differs.
type Change struct {
	// Name says what it is, as a noun phrase.
	Name string `json:"name"`
	// Old and New are its values, with their shares when there are several.
	Old string `json:"old"`
	New string `json:"new"`
	// Noise tells that the difference may well be chance; P is the p-value
	// when there was something to test, that is values which both sides have.
	Noise bool     `json:"noise,omitempty"`
	P     *float64 `json:"p,omitempty"`
}

// LatencyChange compares the latencies of one request.
type LatencyChange struct {
	Request string        `json:"request"`
	Old     LatencySample `json:"old"`
	New     LatencySample `json:"new"`
	// Delta is the change of the median in relation to Old's, 0.1 for 10 per
	// cent more.
	Delta float64 `json:"delta"`
	// P is the p-value of the Mann-Whitney U-test. Noise tells that it is not
	// below 0.05, or that there are too few runs to tell.
	P     float64 `json:"p"`
	Noise bool    `json:"noise"`
	// TooFew tells that so few runs show no difference, however large.
	TooFew bool `json:"too_few,omitempty"`
}

// LatencySample is the median of some latencies and the interval that holds the
// true median with a confidence of 95 per cent; absent for less than 6 runs.
type LatencySample struct {
	N      int `json:"n"`
	Median Ms  `json:"median_ms"`
	Low    *Ms `json:"low_ms,omitempty"`
	High   *Ms `json:"high_ms,omitempty"`
}
