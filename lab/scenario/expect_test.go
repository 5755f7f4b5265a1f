package scenario

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pmtulab/pmtulab/lab/record"
)

// outcome is a result with one request that stalled.
func outcome() record.Result {
	wire := record.Leg{MSSOut: 1460, MSSIn: 1440}
	return record.Result{
		Requests: []record.Request{{
			Name: "B", Connection: record.Connection{Name: "B", Upstream: &wire}, Wrote: 1000, Latency: 212, Status: 200,
			Class: record.PMTUStall, Counters: map[string]map[string]int64{"client": {"Ip.FragFails": 1}},
		}},
		Stalls:     []record.Stall{{Request: "B", Connection: "B", Duration: 211, Predicted: 1210, Samples: 70}},
		Counters:   map[string]map[string]int64{"client": {"Ip.FragFails": 2}, "lb": {}},
		Exceptions: []record.Exception{{Node: "client", Destination: netip.MustParseAddr("10.0.0.2"), MTU: 1480}},
	}
}

func TestCheck(t *testing.T) {
	vip, other := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.9")
	counters := []string{"Icmp.OutDestUnreachs", "Ip.FragFails", "Tcp.RetransSegs"}
	for name, test := range map[string]struct {
		expect Expect
		actual string
		ok     bool
	}{
		"class":                  {Expect{Request: "B", Class: record.PMTUStall}, "pmtu-stall", true},
		"other class":            {Expect{Request: "B", Class: record.Clean}, "pmtu-stall", false},
		"latency":                {Expect{Request: "B", LatencyBelow: 300 * time.Millisecond}, "212.0 ms", true},
		"too slow":               {Expect{Request: "B", LatencyBelow: 212 * time.Millisecond}, "212.0 ms", false},
		"samples":                {Expect{Request: "B", Samples: 70}, "70", true},
		"too few samples":        {Expect{Request: "B", Samples: 71}, "70", false},
		"predicted":              {Expect{Request: "B", PredictedWithin: time.Millisecond}, "+1.0 ms", true},
		"request not made":       {Expect{Request: "A", Class: record.Clean}, "not measured", false},
		"counter":                {Expect{Node: "client", Counter: "Ip.FragFails", Equals: new(int64(2))}, "2", true},
		"counter during request": {Expect{Request: "B", Node: "client", Counter: "Ip.FragFails", Equals: new(int64(1))}, "1", true},
		"counter at rest":        {Expect{Node: "lb", Counter: "Ip.FragFails", Equals: new(int64(0))}, "0", true},
		"counter of nobody":      {Expect{Node: "real", Counter: "Ip.FragFails", Equals: new(int64(0))}, "not measured", false},
		"misspelt counter":       {Expect{Node: "lb", Counter: "Ip.FragFail", Equals: new(int64(0))}, "no such counter in this kernel (did you mean Ip.FragFails?)", false},
		"ICMP type not seen":     {Expect{Node: "lb", Counter: "IcmpMsg.OutType3", Equals: new(int64(0))}, "0", true},
		"MSS out":                {Expect{Connection: "B", Leg: record.UpstreamLeg, MSSOut: 1460}, "1460", true},
		"MSS in":                 {Expect{Connection: "B", Leg: record.UpstreamLeg, MSSIn: 1460}, "1440", false},
		"MSS of the app":         {Expect{Connection: "B", Leg: record.AppLeg, MSSIn: 1460}, "0", false},
		"connection not made":    {Expect{Connection: "A", Leg: record.AppLeg, MSSIn: 1460}, "not measured", false},
		"exception":              {Expect{Node: "client", Exception: vip, MTU: 1480}, "mtu 1480", true},
		"other exception":        {Expect{Node: "client", Exception: vip, MTU: 1500}, "mtu 1480", false},
		"no exception":           {Expect{Node: "client", Exception: other, MTU: 1480}, "none", false},
	} {
		t.Run(name, func(t *testing.T) {
			got := test.expect.check(outcome(), counters)
			if len(got) != 1 || got[0].Actual != test.actual || got[0].OK != test.ok {
				t.Errorf("got %+v, want %q %v", got, test.actual, test.ok)
			}
		})
	}
}

// A stall that ends far from its timer is not the stall of that timer.
func TestPredictionIsBounded(t *testing.T) {
	r := outcome()
	r.Stalls[0].Predicted -= 30
	got := Expect{Request: "B", PredictedWithin: 10 * time.Millisecond}.check(r, nil)
	if len(got) != 1 || got[0].OK {
		t.Errorf("got %+v", got)
	}
	// Without a stall there is nothing to predict.
	r.Stalls = nil
	got = Expect{Request: "B", Samples: 1, PredictedWithin: 10 * time.Millisecond}.check(r, nil)
	if len(got) != 2 || got[0].OK || got[1].OK {
		t.Errorf("got %+v", got)
	}
}

// What a busy machine delayed says nothing; what an idle one did is a failure.
func TestUnfit(t *testing.T) {
	claim := Expect{Request: "B", PredictedWithin: 10 * time.Millisecond}
	for name, test := range map[string]struct {
		late, gap record.Ms
		want      bool
	}{
		"in time":            {0, 4, false},
		"in time, busy":      {0, 45, false},
		"late, machine idle": {30, 4, false},
		"late, machine busy": {30, 40, true},
	} {
		r := outcome()
		r.Stalls[0].Predicted -= test.late
		r.Figures.MaxGap = test.gap
		r.Figures.Steal = 40
		loss, got := claim.unfit(r)
		if got != test.want || got != strings.Contains(loss.Detail, "a hypervisor took 40 ms of a processor") {
			t.Errorf("%s: unfit %v %+v, want %v", name, got, loss, test.want)
		}
	}
}

func TestLabel(t *testing.T) {
	app, dialled := netip.MustParseAddrPort("10.0.0.1:50000"), netip.MustParseAddrPort("10.0.0.2:443")
	up := netip.MustParseAddrPort("10.0.0.1:40000")
	sidecar := netip.MustParseAddrPort("127.0.0.1:15001")
	packet := func(src, dst netip.AddrPort, mss uint16) *record.Packet {
		return &record.Packet{Source: src.Addr(), Destination: dst.Addr(), TCP: &record.TCP{
			SourcePort: src.Port(), DestinationPort: dst.Port(), MSS: mss,
		}}
	}
	c := record.Connection{Name: "A", App: record.Leg{Local: app, Remote: dialled}, Upstream: &record.Leg{Local: up, Remote: dialled}}
	events := []record.Event{
		{Interface: "lo", Packet: packet(app, sidecar, 65495)},
		{Interface: "lo", Packet: packet(sidecar, app, 65483)},
		{Interface: "eth0", Packet: packet(up, dialled, 1460)},
		{Interface: "eth0", Packet: packet(dialled, up, 1440)},
		{Interface: "eth0", Packet: &record.Packet{Protocol: 4, Inner: packet(up, dialled, 1460)}},
		{Interface: "lo", Packet: &record.Packet{Protocol: 1, ICMP: &record.ICMP{Quoted: packet(up, dialled, 0)}}},
		{Interface: "eth0", Packet: packet(netip.MustParseAddrPort("10.0.0.1:41000"), dialled, 536)},
		{Interface: "lo", Packet: packet(netip.MustParseAddrPort("10.0.0.1:41000"), sidecar, 536)},
		{Interface: "eth0", Packet: packet(dialled, up, 536), Connection: "Z"},
	}
	label(&c, events)
	var got []string
	for _, e := range events {
		got = append(got, e.Connection+" "+string(e.Leg))
	}
	want := []string{"A app", "A app", "A upstream", "A upstream", "A upstream", "A upstream", " ", " ", "Z "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if c.App.MSSOut != 65495 || c.App.MSSIn != 65483 || c.Upstream.MSSOut != 1460 || c.Upstream.MSSIn != 1440 {
		t.Errorf("MSS of the app's leg %d, %d, upstream %d, %d", c.App.MSSOut, c.App.MSSIn, c.Upstream.MSSOut, c.Upstream.MSSIn)
	}
}
