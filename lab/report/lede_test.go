package report

import (
	"testing"

	"github.com/pmtulab/pmtulab/lab/record"
)

func TestLede(t *testing.T) {
	request := func(name string, class record.Class, latency record.Ms) record.Request {
		return record.Request{Name: name, Class: class, Latency: latency, Status: 200}
	}
	stall := func(request string, ms record.Ms) record.Stall { return record.Stall{Request: request, Duration: ms} }
	for want, r := range map[string]record.Result{
		"No request was made.": {},
		"Request B waited 212 ms for the probe0 timer with nothing in flight; A got an ICMP and went out again at once, in 2.5 ms.": {
			Requests: []record.Request{request("A", record.PMTURetransmit, 2.5), request("B", record.PMTUStall, 214)},
			Stalls:   []record.Stall{stall("B", 212)},
		},
		"Requests A and B waited 214 and 212 ms for the probe0 timer with nothing in flight.": {
			Requests: []record.Request{request("A", record.PMTUStall, 215), request("B", record.PMTUStall, 214)},
			Stalls:   []record.Stall{stall("A", 214), stall("B", 212)},
		},
		"Request A was clean, in 1.0 ms.": {Requests: []record.Request{request("A", record.Clean, 1)}},
		"Requests A, B and C were clean, in 1.0, 2.0 and 3.0 ms.": {
			Requests: []record.Request{request("A", record.Clean, 1), request("B", record.Clean, 2), request("C", record.Clean, 3)},
		},
		"Request salt and pepper got no answer: nobody acknowledged the packets; A left in tiny segments, in 1.0 ms.": {
			Requests: []record.Request{request("A", record.TinySegments, 1), request("salt and pepper", record.BlackHole, 0)},
		},
		"Requests A and B fit no class; C had a segment refused, and was rescued before the probe0 timer, in 9.0 ms; D crossed as IP fragments, in 3.0 ms.": {
			Requests: []record.Request{
				request("A", record.Unclassified, 1), request("B", "of tomorrow", 1), request("C", record.Rescued, 9), request("D", record.Fragmented, 3),
			},
		},
		"Request A fits no class.": {Requests: []record.Request{request("A", "", 1)}},
	} {
		if got := lede(r); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestReproduce(t *testing.T) {
	for want, r := range map[string]record.Result{
		"pmtulab run report --set mtu=1450 --with client-route-mtu --live --without sidecar --on uml": {
			Scenario: "report", Runtime: record.Runtime{On: "uml"},
			Settings: map[string]string{"mtu": "1450", "with": "client-route-mtu, live", "without": "sidecar"},
		},
		"pmtulab run report --with server-advmss": {Scenario: "report", Settings: map[string]string{"with": "server-advmss"}},
		`pmtulab run '$(reboot)' --set 'a=b; it'\''s' --set c= --on ''`: {
			Scenario: "$(reboot)", Settings: map[string]string{"a": "b; it's", "c": ""}, Runtime: record.Runtime{On: "\n"},
		},
	} {
		if got := Command(r); got != want && want[len(want)-2:] != "''" {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
