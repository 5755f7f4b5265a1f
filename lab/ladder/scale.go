package ladder

import "github.com/pmtulab/pmtulab/lab/record"

// Span is one request on a scale that all requests of a run share.
type Span struct {
	Request record.Request
	// Took is from the write to the end.
	Took record.Ms
	// Width is Took on the scale, Waits the parts of it that were waits.
	Width Percent
	Waits []Part
}

// Part is a wait on the scale.
type Part struct {
	record.Wait
	X, Width Percent
}

// Scale places the requests of r on one scale, true to time, and gives the
// length of the scale.
func Scale(r record.Result) (spans []Span, length record.Ms) {
	for _, q := range r.Requests {
		length = max(length, took(q))
	}
	if length == 0 {
		return nil, 0
	}
	moments := map[string]record.Ms{}
	for _, e := range r.Timeline {
		moments[e.ID] = e.At
	}
	share := func(m record.Ms) Percent { return min(100, max(0, Percent(100*m/length))) }
	for _, q := range r.Requests {
		s := Span{Request: q, Took: took(q), Width: share(took(q))}
		for _, stall := range r.Stalls {
			if stall.Request != q.Name {
				continue
			}
			for _, w := range stall.Waits {
				end, known := moments[last(w.Evidence)]
				if known && w.Kind != record.WaitRTT {
					s.Waits = append(s.Waits, Part{w, share(end - w.Ms - q.Wrote), share(w.Ms)})
				}
			}
		}
		spans = append(spans, s)
	}
	return spans, length
}

// took is the latency of q, or how long it was waited for.
func took(q record.Request) record.Ms { return max(q.Latency, q.Ended-q.Wrote, 0) }

func last(ids []string) string {
	if len(ids) == 0 {
		return ""
	}
	return ids[len(ids)-1]
}
