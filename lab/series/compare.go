package series

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"golang.org/x/perf/benchmath"

	"github.com/pmtulab/pmtulab/lab/record"
)

// alpha is the probability of calling chance a difference.
const alpha = 0.05

// Compare says how two series differ. The files are what the sides are called.
//
// What a run came to is settled by evidence, not by time: when the two sides
// have no value of it in common, they differ, with one run each already. Where
// some values are common, a Mann-Whitney U-test over the runs tells a difference
// from chance. Latencies and the counters that depend on timing are tested always.
func Compare(oldFile string, old record.Series, newFile string, new record.Series) record.Comparison {
	c := record.Comparison{
		Schema: record.ComparisonSchema, Old: compared(oldFile, &old), New: compared(newFile, &new), Same: true,
		Conditions: conditions(old, new), Outcomes: []record.Change{}, Latencies: []record.LatencyChange{}, Counters: []record.Change{},
	}
	a, b := observe(old), observe(new)
	outcome := func(name string, old, new []string) {
		if change, ok := compareOutcome(name, old, new); ok {
			c.Outcomes = append(c.Outcomes, change)
			c.Same = c.Same && change.Noise
		}
	}
	for _, name := range union(a.requests, b.requests) {
		outcome("request "+name, a.made.in(name, a.runs), b.made.in(name, b.runs))
	}
	unshared := 0
	for _, name := range union(a.names, b.names) {
		request := cmp.Or(a.owners[name], b.owners[name])
		switch {
		case request != "" && (a.made[request] == nil || b.made[request] == nil): // said above
		case a.claims[name] != b.claims[name]:
			unshared++
		default:
			outcome(name, a.outcome(name), b.outcome(name))
		}
	}
	for _, k := range counterUnion(a, b, true) {
		if x, y := a.counter(k), b.counter(k); x != nil && y != nil {
			outcome(k.String(), words(x), words(y))
		}
	}
	for _, name := range union(a.requests, b.requests) {
		if x, y := a.latencies[name], b.latencies[name]; len(x) > 0 && len(y) > 0 {
			c.Latencies = append(c.Latencies, compareLatency(name, x, y))
		}
	}
	c.Counters = compareCounters(a, b)
	c.Notes = notes(c, unshared)
	return c
}

// compared describes a side and leaves it only the runs that passed or failed,
// if there are any: the others' evidence is not complete.
func compared(file string, s *record.Series) record.Compared {
	c := record.Compared{File: file, Scenario: s.Scenario, Verdict: s.Verdict, Runtime: s.Runtime}
	all := s.Runs
	s.Runs = nil
	for _, r := range all {
		if r.Verdict == record.Pass || r.Verdict == record.Fail {
			s.Runs = append(s.Runs, r)
		}
	}
	if len(s.Runs) == 0 {
		s.Runs = all
	}
	c.Runs = len(s.Runs)
	c.LeftOut = len(all) - c.Runs
	return c
}

// conditions are the differences in what was run and where.
func conditions(old, new record.Series) []record.Change {
	changes := []record.Change{}
	add := func(name, old, new string) {
		if old != new {
			changes = append(changes, record.Change{Name: name, Old: cmp.Or(old, "none"), New: cmp.Or(new, "none")})
		}
	}
	add("scenario", old.Scenario, new.Scenario)
	add("kernel", old.Runtime.Kernel, new.Runtime.Kernel)
	add("place", old.Runtime.On, new.Runtime.On)
	add("accelerator", old.Runtime.Accelerator, new.Runtime.Accelerator)
	for _, name := range union(slices.Sorted(maps.Keys(old.Settings)), slices.Sorted(maps.Keys(new.Settings))) {
		add("setting "+name, old.Settings[name], new.Settings[name])
	}
	return changes
}

// union is old with what only new has at its end.
func union(old, new []string) []string {
	out := slices.Clone(old)
	have := map[string]bool{}
	for _, s := range old {
		have[s] = true
	}
	for _, s := range new {
		if !have[s] {
			out = append(out, s)
		}
	}
	return out
}

// compareOutcome compares the values that something had in the runs of both
// sides; ok is false when there is no difference at all.
func compareOutcome(name string, old, new []string) (change record.Change, ok bool) {
	change = record.Change{Name: name, Old: shares(old), New: shares(new)}
	values := union(old, new)
	slices.Sort(values)
	values = slices.Compact(values)
	if len(values) == 1 {
		return change, false
	}
	common := slices.ContainsFunc(values, func(v string) bool { return slices.Contains(old, v) && slices.Contains(new, v) })
	if !common {
		return change, true
	}
	p := 1.0
	tests := float64(len(values))
	if len(values) == 2 {
		tests = 1 // the one occurs where the other does not
	}
	for _, v := range values {
		p = min(p, uTest(occurs(old, v), occurs(new, v))*tests)
	}
	change.P, change.Noise = &p, p >= alpha
	return change, change.Old != change.New
}

// occurs is 1 for each of list that is v, and 0 for the others.
func occurs(list []string, v string) []float64 {
	out := make([]float64, len(list))
	for i := range list {
		if list[i] == v {
			out[i] = 1
		}
	}
	return out
}

// shares says which values a list holds, with their shares when there are
// several.
func shares(list []string) string {
	counts := map[string]int{}
	for _, v := range list {
		counts[v]++
	}
	values := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	if len(values) == 1 {
		return values[0]
	}
	for i, v := range values {
		values[i] = fmt.Sprintf("%s in %d of %d", v, counts[v], len(list))
	}
	return strings.Join(values, ", ")
}

func compareLatency(request string, old, new []float64) record.LatencyChange {
	x := record.LatencyChange{Request: request, Old: latency(old), New: latency(new)}
	x.P = uTest(old, new)
	x.Noise = x.P >= alpha
	x.TooFew = smallest(len(old), len(new)) >= alpha
	if x.Old.Median > 0 {
		x.Delta = float64(x.New.Median/x.Old.Median) - 1
	}
	return x
}

func latency(values []float64) record.LatencySample {
	s := summary(values)
	out := record.LatencySample{N: len(values), Median: record.Ms(s.Center)}
	if !math.IsInf(s.Lo, 0) && !math.IsInf(s.Hi, 0) {
		low, high := record.Ms(s.Lo), record.Ms(s.Hi)
		out.Low, out.High = &low, &high
	}
	return out
}

// compareCounters tests the counters whose values depend on timing. There are so
// many that some would differ by chance: the level of the test is divided by
// their number (Bonferroni).
func compareCounters(a, b observations) []record.Change {
	counters := counterUnion(a, b, false)
	changes := []record.Change{}
	for _, k := range counters {
		x, y := a.counter(k), b.counter(k)
		if x == nil || y == nil {
			continue // its request was not made
		}
		change := record.Change{Name: k.String(), Old: median(x), New: median(y)}
		if p := uTest(x, y) * float64(len(counters)); p < alpha && change.Old != change.New {
			change.P = &p
			changes = append(changes, change)
		}
	}
	slices.SortStableFunc(changes, func(a, b record.Change) int { return cmp.Compare(*a.P, *b.P) })
	return changes
}

func words(values []float64) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = fmt.Sprint(v)
	}
	return out
}

func median(values []float64) string { return fmt.Sprintf("%g", summary(values).Center) }

// summary is the median with its confidence interval.
func summary(values []float64) benchmath.Summary {
	return benchmath.AssumeNothing.Summary(benchmath.NewSample(slices.Clone(values), &benchmath.DefaultThresholds), 1-alpha)
}

// notes says what could not be told. unshared counts the expectations that one
// side alone has.
func notes(c record.Comparison, unshared int) []string {
	var out []string
	if unshared > 0 {
		out = append(out, fmt.Sprintf("%d expectations are not compared: only one side has them", unshared))
	}
	if smallest(c.Old.Runs, c.New.Runs) >= alpha {
		out = append(out, fmt.Sprintf("n=%d cannot tell a change of latencies, or of counters that depend on timing, from chance: make both with pmtulab run --repeat 10 or more", min(c.Old.Runs, c.New.Runs)))
	}
	for _, side := range []record.Compared{c.Old, c.New} {
		switch {
		case side.LeftOut > 0:
			out = append(out, fmt.Sprintf("%s: %d runs are left out, which neither passed nor failed", side.File, side.LeftOut))
		case side.Verdict != record.Pass && side.Verdict != record.Fail:
			out = append(out, fmt.Sprintf("%s: its verdict is %s, so not all of it can be relied on", side.File, side.Verdict))
		}
	}
	return out
}
