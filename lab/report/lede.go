// The run in one sentence: what became of the requests, the worst first.

package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pmtulab/pmtulab/lab/record"
)

// worst lists the classes from the worst to the best.
var worst = [...]record.Class{
	record.BlackHole, record.PMTUStall, record.TinySegments, record.Unclassified, record.Rescued,
	record.Fragmented, record.PMTURetransmit, record.Clean,
}

// lede is a sentence about the requests of r.
func lede(r record.Result) string {
	if len(r.Requests) == 0 {
		return "No request was made."
	}
	noun := "Request "
	var clauses []string
	for _, class := range worst {
		var names []string
		var of []record.Request
		for _, q := range r.Requests {
			if q.Class == class || class == record.Unclassified && !slices.Contains(worst[:], q.Class) {
				names, of = append(names, q.Name), append(of, q)
			}
		}
		if len(of) == 0 {
			continue
		}
		if len(clauses) == 0 && len(of) > 1 {
			noun = "Requests "
		}
		clauses = append(clauses, enumerate(names)+" "+clause(r, class, of))
	}
	return noun + strings.Join(clauses, "; ") + "."
}

// clause says what became of requests of one class.
func clause(r record.Result, class record.Class, requests []record.Request) string {
	var latencies, stalls []string
	for _, q := range requests {
		latencies = append(latencies, fmt.Sprintf("%.1f", q.Latency))
		for _, s := range r.Stalls {
			if s.Request == q.Name {
				stalls = append(stalls, fmt.Sprintf("%.0f", s.Duration))
			}
		}
	}
	took := enumerate(latencies) + " ms"
	switch one := len(requests) == 1; class {
	case record.BlackHole:
		return "got no answer: nobody acknowledged the packets"
	case record.PMTUStall:
		return "waited " + enumerate(stalls) + " ms for the probe0 timer with nothing in flight"
	case record.TinySegments:
		return "left in tiny segments, in " + took
	case record.Rescued:
		return "had a segment refused, and was rescued before the probe0 timer, in " + took
	case record.Fragmented:
		return "crossed as IP fragments, in " + took
	case record.PMTURetransmit:
		return "got an ICMP and went out again at once, in " + took
	case record.Clean:
		if one {
			return "was clean, in " + took
		}
		return "were clean, in " + took
	default:
		if one {
			return "fits no class"
		}
		return "fit no class"
	}
}

// enumerate is "a", "a and b" or "a, b and c".
func enumerate(words []string) string {
	n := len(words)
	if n < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:n-1], ", ") + " and " + words[n-1]
}
