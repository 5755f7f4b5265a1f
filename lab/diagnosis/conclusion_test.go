package diagnosis

import (
	"strings"
	"testing"

	"github.com/pmtulab/pmtulab/lab/record"
)

// told is a run with one request of a class, and what led to it.
func told(class record.Class, events *story) record.Result {
	leg := record.Leg{Local: client, Remote: vip, MSSOut: 1460, MSSIn: 1460}
	return record.Result{
		Links:    []record.Link{{Node: "client", Interface: "eth0", MTU: 1500}},
		Requests: []record.Request{{Name: "X", Connection: record.Connection{Name: "X", App: leg}, Wrote: 0, Latency: 250, Status: 200, Class: class}},
		Timeline: events.events,
	}
}

func TestConclude(t *testing.T) {
	stalled := told(record.PMTUStall, new(story).icmp(0.3, "10.0.0.1").waits(1, 207))
	stalled.Stalls = []record.Stall{{Request: "X", Connection: "X", Duration: 208, Waits: []record.Wait{
		{Kind: record.WaitProbe0, Ms: 208}, {Kind: record.WaitDelayedAck, Ms: 41},
	}}}
	learned := stalled
	learned.Timeline = new(story).icmp(-5, "10.0.0.2").icmp(0.3, "10.0.0.1").waits(1, 207).events
	learned.Exceptions = []record.Exception{{Node: "client", Destination: vip.Addr(), MTU: 1480}}
	live := stalled
	live.Mitigations = []record.Mitigation{{Name: "client-route-mtu", Live: true}}

	for name, test := range map[string]struct {
		result record.Result
		want   []string
	}{
		"clean":      {told(record.Clean, new(story)), []string{"Request X was clean", "250.0 ms"}},
		"retransmit": {told(record.PMTURetransmit, new(story).icmp(0.3, "10.0.0.2")), []string{"packet of 1500 bytes did not fit 1480, so 10.0.0.2 answered"}},
		"learned": {learned, []string{
			"paid for what another request had learned", "refused them for a route of 1480", "waited 208 ms for the probe0 timer and then 41 ms for the server's delayed ACK",
			"mtu 1480 on the client's route to 10.0.0.2, or advmss 1440",
		}},
		"live":       {live, []string{"paid for the change of its route while it was open"}},
		"other":      {stalled, []string{"paid for a change of its route"}},
		"black hole": {told(record.BlackHole, new(story)), []string{"Request X vanished"}},
		"tiny":       {told(record.TinySegments, new(story)), []string{"segments too small for any device"}},
		"rescued":    {told(record.Rescued, new(story)), []string{"Request X is rescued after 250.0 ms"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(Conclude(test.result), "\n")
			for _, want := range test.want {
				if !strings.Contains(got, want) {
					t.Errorf("%q is not in %q", want, got)
				}
			}
		})
	}
	if all := Conclude(live); len(all) != 1 {
		t.Errorf("a run with a mitigation in place recommends one: %q", all)
	}
}

// Every figure is derived from those that were measured, and one that does not
// follow is called out.
func TestArithmetic(t *testing.T) {
	r := told(record.PMTUStall, new(story).waits(1, 207))
	r.Exceptions = []record.Exception{{Node: "client", MTU: 1480}}
	good := strings.Join(Arithmetic(r), "\n")
	for _, want := range []string{"1500 − 20 = 1480", "1500 − 20 − 20 = 1460", "1460 − 12 = 1448", "1480 − 20 − 20 = 1440, and 1440 − 12 = 1428"} {
		if !strings.Contains(good, want) {
			t.Errorf("%q is not in\n%s", want, good)
		}
	}
	if strings.Contains(good, "but") {
		t.Errorf("something does not follow:\n%s", good)
	}
	r.Exceptions[0].MTU = 1400
	r.Requests[0].Connection.App.MSSOut = 1360
	r.Timeline[0].Socket.SendMSS = 1328
	bad := strings.Join(Arithmetic(r), "\n")
	for _, want := range []string{"but 1400 was measured", "but 1360 was measured", "but 1328 was measured"} {
		if !strings.Contains(bad, want) {
			t.Errorf("%q is not in\n%s", want, bad)
		}
	}
	if lines := Arithmetic(record.Result{}); lines != nil {
		t.Errorf("of nothing: %q", lines)
	}
}
