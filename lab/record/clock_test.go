package record

import (
	"strings"
	"testing"
)

func TestClockUnfit(t *testing.T) {
	for _, c := range []struct {
		clock Clock
		want  []string
	}{
		{Clock{Source: "tsc", Jitter: 1.2}, nil},
		{Clock{Source: "tsc", Step: 0.9, Jitter: 20, Steal: 20}, nil},
		{Clock{Source: "jiffies", Step: 4}, []string{"clock jiffies advances by 4.0 ms at a time"}},
		{Clock{Jitter: 20.1}, []string{"a short sleep ended 20.1 ms late, at most 20 ms is allowed"}},
		{Clock{Jitter: 31, Steal: 30, Took: 61}, []string{"ended 31.0 ms late", "took a processor away for 30 ms of 61"}},
	} {
		got := c.clock.Unfit()
		if len(got) != len(c.want) {
			t.Errorf("%+v: %q, want %q", c.clock, got, c.want)
			continue
		}
		for i, want := range c.want {
			if !strings.Contains(got[i], want) {
				t.Errorf("%+v: %q, want %q", c.clock, got[i], want)
			}
		}
	}
}
