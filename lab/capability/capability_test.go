package capability

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
)

// recorder is a test that ends as it is told to, and remembers how.
type recorder struct{ ended string }

func (*recorder) Helper() {}

func (r *recorder) Fatalf(format string, args ...any) {
	r.ended = "failed: " + fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Skipf(format string, args ...any) {
	r.ended = "skipped: " + fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestMissing(t *testing.T) {
	for _, c := range []struct{ require, ended string }{
		{"", "skipped: no IPVS"},
		{"veth,bridge", "skipped: no IPVS"},
		{"ipv", "skipped: no IPVS"},
		{"ipvs", "failed: PMTULAB_REQUIRE=ipvs: no IPVS"},
		{"veth,ipip", "failed: PMTULAB_REQUIRE=veth,ipip: no IPVS"},
		{"all", "failed: PMTULAB_REQUIRE=all: no IPVS"},
	} {
		t.Setenv(RequireEnv, c.require)
		r := &recorder{}
		done := make(chan struct{})
		go func() {
			defer close(done)
			Missing(r, errors.New("no IPVS"), "ipvs", "ipip")
			t.Error("the test goes on")
		}()
		<-done
		if r.ended != c.ended {
			t.Errorf("PMTULAB_REQUIRE=%q: %q, want %q", c.require, r.ended, c.ended)
		}
	}
}
