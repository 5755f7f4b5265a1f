package series

import (
	"bytes"
	"encoding/json"
	"testing"
)

// Whatever a file holds, reading it ends, and what was read can be compared and
// written.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"schema":"pmtulab/result/v1","verdict":"pass","duration_ms":1.5,"requests":[{"name":"A","class":"clean","connection":{"app":{"local":"10.0.0.1:1","mss_out":1460}}}],"exceptions":[{"destination":"10.0.0.2"}],"timeline":[{"packet":{"source":"10.0.0.1"}}]}`))
	f.Add([]byte(`{"schema":"pmtulab/series/v1","wanted":2,"runs":[{"verdict":"pass","requests":[{"name":"A","class":"clean","status":200,"latency_ms":1}]},{"verdict":"fail"}]}`))
	f.Add([]byte(`{"schema":"pmtulab/result/v1","counters":{"lb":{"Icmp.InMsgs":1e3}},"expectations":[{"name":"x","ok":false}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Read("fuzzed", bytes.NewReader(data))
		if err != nil {
			return
		}
		c := Compare("a", s, "b", s)
		if !c.Same || len(c.Conditions)+len(c.Outcomes)+len(c.Counters) > 0 {
			t.Errorf("differs from itself: %+v", c)
		}
		for _, v := range []any{s, c} {
			if _, err := json.Marshal(v); err != nil {
				t.Error(err)
			}
		}
	})
}
