package scenario

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/topology"
)

// check compares one Expect with the result: one record.Expectation for each
// thing that it claims. counters are the names that this kernel counts.
func (e Expect) check(result record.Result, counters []string) []record.Expectation {
	switch {
	case e.Counter != "":
		return []record.Expectation{e.checkCounter(result, counters)}
	case e.Request != "":
		return e.checkRequest(result)
	case e.Connection != "":
		return e.checkHandshake(result)
	default:
		return []record.Expectation{e.checkException(result)}
	}
}

// missing is the answer when the thing itself was not there to be measured.
func missing(name, limit string) record.Expectation {
	return record.Expectation{Name: name, Limit: limit, Actual: "not measured"}
}

func (e Expect) checkRequest(result record.Result) []record.Expectation {
	request := find(result.Requests, func(r record.Request) bool { return r.Name == e.Request })
	if request == nil {
		return []record.Expectation{missing("request "+e.Request, "made")}
	}
	var out []record.Expectation
	if e.Class != "" {
		out = append(out, record.Expectation{
			Name: "class of request " + e.Request, Limit: string(e.Class), Actual: string(request.Class), OK: request.Class == e.Class,
		})
	}
	if e.SendMSS > 0 {
		out = append(out, record.Expectation{
			Name: "send MSS before request " + e.Request, Limit: fmt.Sprint(e.SendMSS), Actual: fmt.Sprint(request.SendMSS), OK: request.SendMSS == e.SendMSS,
		})
	}
	if e.LatencyBelow > 0 {
		limit := record.Millis(e.LatencyBelow)
		out = append(out, record.Expectation{
			Name: "latency of request " + e.Request, Limit: fmt.Sprintf("below %g ms", limit),
			Actual: fmt.Sprintf("%.1f ms", request.Latency), OK: request.Status != 0 && request.Latency < limit,
		})
	}
	if e.Samples == 0 && e.PredictedWithin == 0 {
		return out
	}
	stall := find(result.Stalls, func(s record.Stall) bool { return s.Request == request.Name })
	if e.Samples > 0 {
		x := missing("socket samples of the stall of request "+e.Request, fmt.Sprintf("at least %d", e.Samples))
		if stall != nil {
			x.Actual, x.OK = fmt.Sprint(stall.Samples), stall.Samples >= e.Samples
		}
		out = append(out, x)
	}
	if e.PredictedWithin > 0 {
		limit := record.Millis(e.PredictedWithin + tick())
		x := missing("end of the stall of request "+e.Request, fmt.Sprintf("within %g ms of the sampled timer (one tick is %v)", limit, tick().Round(time.Millisecond)))
		if stall != nil {
			off := offPrediction(*request, *stall)
			x.Actual, x.OK = fmt.Sprintf("%+.1f ms", off), math.Abs(float64(off)) <= float64(limit)
		}
		out = append(out, x)
	}
	return out
}

// offPrediction is how far the end of a stall is from what its timer predicted.
func offPrediction(request record.Request, stall record.Stall) record.Ms {
	return request.Wrote + stall.Duration - stall.Predicted
}

// unfit is the loss of a stall that ended far from its timer on a machine that
// left the sampler alone for longer than the claim allows: it may have left the
// timer alone as well. A claim that holds in spite of that holds.
func (e Expect) unfit(result record.Result) (record.Loss, bool) {
	limit := record.Millis(e.PredictedWithin + tick())
	request := find(result.Requests, func(r record.Request) bool { return r.Name == e.Request })
	stall := find(result.Stalls, func(s record.Stall) bool { return s.Request == e.Request })
	if e.PredictedWithin == 0 || request == nil || stall == nil {
		return record.Loss{}, false
	}
	off := record.Ms(math.Abs(float64(offPrediction(*request, *stall))))
	if off <= limit || result.Figures.MaxGap <= limit {
		return record.Loss{}, false
	}
	stolen := ""
	if ms := result.Figures.Steal; ms > 0 {
		stolen = fmt.Sprintf("; a hypervisor took %g ms of a processor during the run", ms)
	}
	return record.Loss{
		Source: record.ClockLoss, Count: 1,
		Detail: fmt.Sprintf("the stall of request %s ended %.1f ms from its timer, but samples were up to %.1f ms apart: the machine is too busy to tell within %g ms%s",
			e.Request, off, result.Figures.MaxGap, limit, stolen),
	}, true
}

func (e Expect) checkCounter(result record.Result, counters []string) record.Expectation {
	name, deltas := fmt.Sprintf("%s of %s", e.Counter, e.Node), result.Counters
	if e.Request != "" {
		name += " during request " + e.Request
		request := find(result.Requests, func(r record.Request) bool { return r.Name == e.Request })
		if request == nil {
			return missing(name, fmt.Sprint(*e.Equals))
		}
		deltas = request.Counters
	}
	if deltas[e.Node] == nil {
		return missing(name, fmt.Sprint(*e.Equals))
	}
	// A name that nothing counts would be 0 for ever. Those of IcmpMsg appear
	// with the first message of their type.
	if !slices.Contains(counters, e.Counter) && !strings.HasPrefix(e.Counter, "IcmpMsg.") {
		x := missing(name, fmt.Sprint(*e.Equals))
		x.Actual = "no such counter in this kernel"
		if near := topology.Nearest(e.Counter, among(counters, e.Counter)...); near != "" {
			x.Actual += fmt.Sprintf(" (did you mean %s?)", near)
		}
		return x
	}
	actual := deltas[e.Node][e.Counter]
	return record.Expectation{Name: name, Limit: fmt.Sprint(*e.Equals), Actual: fmt.Sprint(actual), OK: actual == *e.Equals}
}

func (e Expect) checkHandshake(result record.Result) []record.Expectation {
	name := fmt.Sprintf("the %s leg of connection %s", e.Leg, e.Connection)
	request := find(result.Requests, func(r record.Request) bool { return r.Connection.Name == e.Connection })
	if request == nil {
		return []record.Expectation{missing("MSS on "+name, "measured")}
	}
	leg := &request.Connection.App
	if e.Leg == record.UpstreamLeg {
		leg = request.Connection.Upstream
	}
	var out []record.Expectation
	compare := func(what string, want, got uint16) {
		if want > 0 {
			out = append(out, record.Expectation{
				Name: what + " on " + name, Limit: fmt.Sprint(want), Actual: fmt.Sprint(got), OK: want == got,
			})
		}
	}
	if leg == nil {
		return []record.Expectation{missing("MSS on "+name, "measured")}
	}
	compare("MSS in the SYN", e.MSSOut, leg.MSSOut)
	compare("MSS in the SYN-ACK", e.MSSIn, leg.MSSIn)
	return out
}

func (e Expect) checkException(result record.Result) record.Expectation {
	name := fmt.Sprintf("PMTU exception of %s for %s", e.Node, e.Exception)
	found := find(result.Exceptions, func(x record.Exception) bool { return x.Node == e.Node && x.Destination == e.Exception })
	if found == nil {
		return record.Expectation{Name: name, Limit: fmt.Sprintf("mtu %d", e.MTU), Actual: "none", OK: false}
	}
	return record.Expectation{
		Name: name, Limit: fmt.Sprintf("mtu %d", e.MTU), Actual: fmt.Sprintf("mtu %d", found.MTU), OK: found.MTU == e.MTU,
	}
}

// among are the counters of the same protocol as name.
func among(counters []string, name string) []string {
	protocol, _, _ := strings.Cut(name, ".")
	var out []string
	for _, c := range counters {
		if strings.HasPrefix(c, protocol+".") {
			out = append(out, c)
		}
	}
	return out
}

func find[T any](list []T, match func(T) bool) *T {
	for i := range list {
		if match(list[i]) {
			return &list[i]
		}
	}
	return nil
}
