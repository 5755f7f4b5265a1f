package series

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pmtulab/pmtulab/lab/record"
)

func counting(name string, n int64) func(*record.Result) {
	return func(r *record.Result) {
		r.Requests[0].Counters = map[string]map[string]int64{"client": {name: n}}
		r.Counters = map[string]map[string]int64{"client": {name: n}}
	}
}

// many is n runs; ms is the latency of the first, and each is a little slower
// than the one before.
func many(n int, class record.Class, ms record.Ms, change ...func(*record.Result)) record.Series {
	var runs []record.Result
	for i := range n {
		runs = append(runs, result(record.Pass, class, ms+record.Ms(i)/100, change...))
	}
	return New(n, runs)
}

// mixed is n runs, of which some have another class.
func mixed(n, other int) record.Series {
	var runs []record.Result
	for i := range n {
		class := record.PMTUStall
		if i < other {
			class = record.Rescued
		}
		runs = append(runs, result(record.Pass, class, 210))
	}
	return New(n, runs)
}

func TestCompare(t *testing.T) {
	for _, c := range []struct {
		name     string
		old, new record.Series
		same     bool
		// lines are all differences, and the notes.
		lines []string
	}{
		{"one and the same", many(1, record.Clean, 2), many(1, record.Clean, 2), true, []string{
			"latency A ~ too few",
			"note: n=1 cannot tell a change of latencies, or of counters that depend on timing, from chance: make both with pmtulab run --repeat 10 or more",
		}},
		{"one of another class", many(1, record.PMTUStall, 210), many(1, record.Clean, 2), false, []string{
			"class of request A: pmtu-stall → clean",
			"latency A ~ too few",
			"note: n=1 cannot tell a change of latencies, or of counters that depend on timing, from chance: make both with pmtulab run --repeat 10 or more",
		}},
		{"other latencies", many(10, record.Clean, 2), many(10, record.Clean, 3), true, []string{"latency A +49 %"}},
		{"latencies of one distribution", many(10, record.Clean, 2), many(10, record.Clean, 2.005), true, []string{"latency A ~"}},
		{"a class now and then", mixed(30, 0), mixed(30, 1), true, []string{
			"class of request A: pmtu-stall → pmtu-stall in 29 of 30, rescued in 1 of 30 ~",
			"latency A ~",
		}},
		{"a class more often", mixed(30, 1), mixed(30, 12), false, []string{
			"class of request A: pmtu-stall in 29 of 30, rescued in 1 of 30 → pmtu-stall in 18 of 30, rescued in 12 of 30",
			"latency A ~",
		}},
		{"a kernel and a setting", many(10, record.Clean, 2), many(10, record.Clean, 2, func(r *record.Result) {
			r.Runtime.Kernel, r.Settings = "6.12", map[string]string{"mtu": "1450"}
		}), true, []string{"condition kernel: 6.1 → 6.12", "condition setting mtu: none → 1450", "latency A ~"}},
		{"an ICMP counter", many(10, record.Clean, 2), many(10, record.Clean, 2, counting("Icmp.InDestUnreachs", 1)), false, []string{
			"Icmp.InDestUnreachs of client during request A: 0 → 1", "latency A ~",
		}},
		{"an ICMP counter elsewhere", many(10, record.Clean, 2), many(10, record.Clean, 2, func(r *record.Result) {
			r.Counters = map[string]map[string]int64{"lb": {"Icmp.OutDestUnreachs": 1}}
		}), false, []string{"Icmp.OutDestUnreachs of lb outside of requests: 0 → 1", "latency A ~"}},
		{"a counter that depends on timing", many(10, record.Clean, 2, counting("Tcp.InSegs", 4)), many(10, record.Clean, 2, counting("Tcp.InSegs", 5)), true, []string{
			"latency A ~", "counter Tcp.InSegs of client during request A: 4 → 5",
		}},
		{"an expectation", many(10, record.Clean, 2, expecting(true, "clean")), many(10, record.Clean, 2, expecting(false, "clean")), false, []string{
			"expectation class of request A (clean): met → not met", "latency A ~",
		}},
		{"an expectation of one side", many(10, record.Clean, 2, expecting(true, "clean")), many(10, record.Clean, 2), true, []string{
			"latency A ~", "note: 1 expectations are not compared: only one side has them",
		}},
		{"no response", many(10, record.Clean, 2), many(10, record.BlackHole, 2, func(r *record.Result) { r.Requests[0].Status = 0 }), false, []string{
			"class of request A: clean → black-hole", "response of request A: status 200 → none",
		}},
		{"other requests", many(10, record.Clean, 2), many(10, record.Clean, 2, func(r *record.Result) { r.Requests[0].Name = "B" }), false, []string{
			"request A: made → not made", "request B: not made → made",
		}},
		{"MSS and exceptions", many(10, record.Clean, 2), many(10, record.Clean, 2, func(r *record.Result) {
			r.Requests[0].Connection.App.MSSIn = 1440
			r.Exceptions = []record.Exception{{Node: "client", MTU: 1480}}
		}), false, []string{
			"MSS in the SYN-ACK of request A: 0 → 1440", "PMTU exception of client for invalid IP: none → mtu 1480", "latency A ~",
		}},
		{"an error", many(10, record.Clean, 2), New(11, append(many(10, record.Clean, 2).Runs, result(record.Error, record.PMTUStall, 210))), true, []string{
			"latency A ~", "note: new: 1 runs are left out, which neither passed nor failed",
		}},
		{"nothing but errors", many(10, record.Clean, 2), New(1, []record.Result{result(record.Error, record.Clean, 2)}), false, []string{
			"verdict: pass → error", "latency A ~ too few",
			"note: n=1 cannot tell a change of latencies, or of counters that depend on timing, from chance: make both with pmtulab run --repeat 10 or more",
			"note: new: its verdict is error, so not all of it can be relied on",
		}},
	} {
		got := Compare("old", c.old, "new", c.new)
		if got.Same != c.same {
			t.Errorf("%s: same is %t", c.name, got.Same)
		}
		if diff := cmp.Diff(c.lines, lines(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// lines are the differences in short.
func lines(c record.Comparison) []string {
	var out []string
	add := func(prefix string, changes []record.Change) {
		for _, x := range changes {
			line := fmt.Sprintf("%s%s: %s → %s", prefix, x.Name, x.Old, x.New)
			if x.Noise {
				line += " ~"
			}
			out = append(out, line)
		}
	}
	add("condition ", c.Conditions)
	add("", c.Outcomes)
	for _, x := range c.Latencies {
		switch {
		case x.TooFew:
			out = append(out, "latency "+x.Request+" ~ too few")
		case x.Noise:
			out = append(out, "latency "+x.Request+" ~")
		default:
			out = append(out, fmt.Sprintf("latency %s %+.0f %%", x.Request, 100*x.Delta))
		}
	}
	add("counter ", c.Counters)
	for _, note := range c.Notes {
		out = append(out, "note: "+note)
	}
	return out
}

// The interval of a median needs six values.
func TestLatency(t *testing.T) {
	five, six := latency([]float64{1, 2, 3, 4, 5}), latency([]float64{6, 2, 3, 4, 5, 1})
	if five.Low != nil || five.High != nil || five.Median != 3 {
		t.Errorf("of five: %+v", five)
	}
	if six.Low == nil || *six.Low != 1 || *six.High != 6 || six.Median != 3.5 || six.N != 6 {
		t.Errorf("of six: %+v", six)
	}
}

func TestRead(t *testing.T) {
	for text, want := range map[string]string{
		`{`:                               "read x: line 1, column 1 (byte 1 of 1): unexpected end of JSON input",
		`{"schema": "pmtulab/matrix/v1"}`: `read x: its schema is "pmtulab/matrix/v1"; pmtulab/result/v1 and pmtulab/series/v1 can be read`,
		`{"schema": "pmtulab/series/v2"}`: "read x: its schema is pmtulab/series/v2, newer than this program; pmtulab/result/v1 and pmtulab/series/v1 can be read; use the pmtulab that wrote it, or a newer one",
		`{"schema": "pmtulab/result/v1", "requests": 1}`:                                   "read x: line 1, column 45 (byte 45 of 46): field requests: a JSON number does not fit",
		`{"schema": "pmtulab/series/v1", "wanted": ""}`:                                    "read x: line 1, column 44 (byte 44 of 45): field wanted: a JSON string does not fit",
		`{"schema": "pmtulab/series/v1", "runs": []}`:                                      "read x: a series of 0 runs; 1 to 1000 are wanted",
		`{"schema": "pmtulab/series/v1", "runs": [{}` + strings.Repeat(",{}", 1000) + `]}`: "read x: a series of 1001 runs; 1 to 1000 are wanted",
	} {
		_, err := Read("x", strings.NewReader(text))
		if fmt.Sprint(err) != want {
			t.Errorf("%.60q:\n got %v\nwant %s", text, err, want)
		}
	}
	s, err := Read("x", strings.NewReader(`{"schema": "pmtulab/result/v1", "verdict": "pass", "later": [1]}`))
	if err != nil || len(s.Runs) != 1 || s.Verdict != record.Pass {
		t.Errorf("a result: %+v, %v", s, err)
	}
}
