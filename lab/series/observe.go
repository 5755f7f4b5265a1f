package series

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pmtulab/pmtulab/lab/record"
)

// observations are what a series tells of each run, ready to be compared.
type observations struct {
	runs int
	// names are those of the outcomes, in the order of their first appearance.
	names    []string
	outcomes map[string]map[int]string // by name and run
	// owners are the requests that outcomes are about, and claims the outcomes
	// that are expectations; by name.
	owners map[string]string
	claims map[string]bool
	// requests are their names, in the order of their first appearance.
	requests  []string
	made      made
	latencies map[string][]float64
	counters  map[counter]map[int]int64 // by run; 0 is left out
}

// made lists the runs that made a request, by its name.
type made map[string][]int

// in tells of each of a number of runs whether it made a request.
func (m made) in(request string, runs int) []string {
	out := make([]string, runs)
	for run := range out {
		out[run] = "not made"
		if slices.Contains(m[request], run) {
			out[run] = "made"
		}
	}
	return out
}

// counter is a kernel counter of a node during a request; request is empty for
// the rest of the run.
type counter struct{ request, node, name string }

func (c counter) String() string {
	if c.request == "" {
		return fmt.Sprintf("%s of %s outside of requests", c.name, c.node)
	}
	return fmt.Sprintf("%s of %s during request %s", c.name, c.node, c.request)
}

func (c counter) compare(d counter) int {
	return cmp.Or(cmp.Compare(c.request, d.request), cmp.Compare(c.node, d.node), cmp.Compare(c.name, d.name))
}

// decisive tells that a counter moves for what happened and not by timing: ICMP
// messages, fragmentation and reassembly. Over runs of one scenario on a busy
// machine these stay as they are, while segments and ACKs vary.
func (c counter) decisive() bool {
	for _, prefix := range []string{"Icmp.", "IcmpMsg.", "Ip.Frag", "Ip.Reasm"} {
		if strings.HasPrefix(c.name, prefix) {
			return true
		}
	}
	return false
}

func observe(s record.Series) observations {
	o := observations{
		runs: len(s.Runs), outcomes: map[string]map[int]string{}, owners: map[string]string{}, claims: map[string]bool{}, made: made{}, latencies: map[string][]float64{},
		counters: map[counter]map[int]int64{},
	}
	for run, r := range s.Runs {
		o.note(run, "verdict", string(r.Verdict))
		for _, q := range r.Requests {
			o.request(run, q)
		}
		for _, x := range r.Exceptions {
			o.note(run, fmt.Sprintf("PMTU exception of %s for %s", x.Node, x.Destination), fmt.Sprintf("mtu %d", x.MTU))
		}
		for _, x := range r.Expectations {
			met := "met"
			if !x.OK {
				met = "not met"
			}
			name := fmt.Sprintf("expectation %s (%s)", x.Name, x.Limit)
			o.claims[name] = true
			o.note(run, name, met)
		}
		for node, counters := range r.Counters {
			for name, n := range counters {
				for _, q := range r.Requests {
					n -= q.Counters[node][name]
				}
				if c := (counter{"", node, name}); c.decisive() {
					o.count(run, c, n)
				}
			}
		}
	}
	return o
}

func (o *observations) request(run int, q record.Request) {
	if _, known := o.made[q.Name]; !known {
		o.requests = append(o.requests, q.Name)
	}
	o.made[q.Name] = append(o.made[q.Name], run)
	if q.Status != 0 {
		o.latencies[q.Name] = append(o.latencies[q.Name], float64(q.Latency))
	}
	note := func(what string, value any) {
		name := what + " of request " + q.Name
		o.owners[name] = q.Name
		o.note(run, name, fmt.Sprint(value))
	}
	note("class", q.Class)
	if q.Status == 0 {
		note("response", "none")
	} else {
		note("response", fmt.Sprintf("status %d", q.Status))
	}
	note("bytes", q.Bytes)
	note("send MSS", q.SendMSS)
	wire := q.Connection.Wire()
	note("MSS in the SYN", wire.MSSOut)
	note("MSS in the SYN-ACK", wire.MSSIn)
	for node, counters := range q.Counters {
		for name, n := range counters {
			o.count(run, counter{q.Name, node, name}, n)
		}
	}
}

func (o *observations) note(run int, name, value string) {
	if o.outcomes[name] == nil {
		o.outcomes[name] = map[int]string{}
		o.names = append(o.names, name)
	}
	o.outcomes[name][run] = value
}

func (o *observations) count(run int, c counter, n int64) {
	if n == 0 {
		return
	}
	if o.counters[c] == nil {
		o.counters[c] = map[int]int64{}
	}
	o.counters[c][run] = n
}

// outcome lists the values of an outcome, one for each run.
func (o *observations) outcome(name string) []string {
	out := make([]string, o.runs)
	for run := range out {
		out[run] = cmp.Or(o.outcomes[name][run], "none")
	}
	return out
}

// counter lists the values of a counter in the runs that made its request.
func (o *observations) counter(c counter) []float64 {
	var out []float64
	for run := range o.runs {
		if c.request == "" {
			out = append(out, float64(o.counters[c][run]))
		}
	}
	for _, run := range o.made[c.request] {
		out = append(out, float64(o.counters[c][run]))
	}
	return out
}

// counterUnion are the counters of either side, decisive ones or the others.
func counterUnion(a, b observations, decisive bool) []counter {
	all := maps.Clone(a.counters)
	maps.Copy(all, b.counters)
	maps.DeleteFunc(all, func(c counter, _ map[int]int64) bool { return c.decisive() != decisive })
	return slices.SortedFunc(maps.Keys(all), counter.compare)
}
