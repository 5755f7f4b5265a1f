package evidence

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pmtulab/pmtulab/lab/record"
)

func TestRouteChanges(t *testing.T) {
	x := func(destination string, mtu int) record.Exception {
		return record.Exception{Node: "client", Destination: netip.MustParseAddr(destination), Device: "eth0", MTU: mtu, ExpiresS: 600}
	}
	before := []record.Exception{x("10.0.0.2", 1480), x("10.0.0.3", 1480), x("10.0.0.4", 1400)}
	now := []record.Exception{x("10.0.0.2", 1480), x("10.0.0.3", 1400), x("10.0.0.5", 1300)}
	now[0].ExpiresS = 599 // time goes by; that is no change
	var got []string
	for _, e := range routeChanges(12, before, now) {
		if e.At != 12 || e.Node != "client" || e.Route == nil {
			t.Errorf("%+v", e)
		}
		got = append(got, e.Text)
	}
	want := []string{
		"exception for 10.0.0.3 changed: mtu 1400, expires in 600 s",
		"exception for 10.0.0.5 learned: mtu 1300, expires in 600 s",
		"exception for 10.0.0.4 gone: mtu 1400, expires in 600 s",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if events := routeChanges(1, now, now); len(events) != 0 {
		t.Errorf("nothing has changed: %+v", events)
	}
}
