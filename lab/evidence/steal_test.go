package evidence

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseSteal(t *testing.T) {
	const stat = "cpu  1 2 3 4 5 6 7 17 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\ncpu1 1 2 3 4 5 6 7 9 9 10\nintr 12 0\n\nctxt 4\n"
	got, err := parseSteal(stat)
	if diff := cmp.Diff(steal{"cpu0": 8, "cpu1": 9}, got); diff != "" || err != nil {
		t.Errorf("error %v, stolen (-want +got):\n%s", err, diff)
	}
	for _, bad := range []string{"", "cpu 1 2 3 4 5 6 7 8 9", "cpu0 1 2", "cpu0 a b c d e f g h"} {
		if _, err := parseSteal(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

// The processor that lost most counts, and one that was not there before does
// not.
func TestStealSince(t *testing.T) {
	before, after := steal{"cpu0": 8, "cpu1": 100}, steal{"cpu0": 12, "cpu1": 101, "cpu2": 50}
	if got := after.since(before); got != 40 {
		t.Errorf("%g ms, want 40", got)
	}
}
