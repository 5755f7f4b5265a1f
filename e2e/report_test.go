//go:build linux && kernel

package e2e

import (
	"net/netip"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/pmtulab/pmtulab/lab/diagnosis"
	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/scenario"
)

// client ──┐
//
//	├── lan (bridge, MTU 1500) ── lb: VIP 10.0.0.2:443, IPVS, IPIP to real
//
// real ────┘   real answers the client directly
var (
	clientIP = netip.MustParseAddr("10.0.0.1")
	vip      = netip.MustParseAddr("10.0.0.2")
	lbIP     = netip.MustParseAddr("10.0.0.5")
	realIP   = netip.MustParseAddr("10.0.0.6")
)

// icmpAndFragments are the counters that the field report turns on. The
// specs compare all of them, so that one that moves unexpectedly is found.
var icmpAndFragments = []string{
	"Icmp.InMsgs", "Icmp.OutMsgs", "Icmp.InErrors", "Icmp.OutErrors", "Icmp.InDestUnreachs", "Icmp.OutDestUnreachs",
	"IcmpMsg.InType3", "IcmpMsg.OutType3",
	"Ip.FragFails", "Ip.FragOKs", "Ip.FragCreates", "Ip.ReasmReqds", "Ip.ReasmOKs", "Ip.ReasmFails",
}

// counted picks those counters of each node, without zeros.
func counted(deltas map[string]map[string]int64) map[string]map[string]int64 {
	out := map[string]map[string]int64{}
	for _, node := range []string{"client", "lb", "real"} {
		out[node] = map[string]int64{}
		Expect(deltas).To(HaveKey(node))
		for _, name := range icmpAndFragments {
			if n := deltas[node][name]; n != 0 {
				out[node][name] = n
			}
		}
	}
	return out
}

var _ = Describe("The field report", Ordered, ContinueOnFailure, needs("report"), func() {
	var (
		r    record.Result
		a, b record.Request
	)
	BeforeAll(func(ctx SpecContext) {
		r = perform(ctx, parse("report", nil))
		a, b = request(r, "A"), request(r, "B")
	})

	It("passes its own expectations", func() {
		Expect(r.Verdict).To(Equal(record.Pass), "%v", r.Reasons)
		Expect(r.Expectations).NotTo(BeEmpty())
	})

	It("has MSS 1460 in the SYNs of the sidecar's upstream legs and of the application's", func() {
		for _, q := range []record.Request{a, b} {
			Expect(q.Connection.Upstream).NotTo(BeNil())
			Expect(q.Connection.Upstream.MSSOut).To(BeEquivalentTo(1460))
			Expect(q.Connection.Upstream.MSSIn).To(BeEquivalentTo(1460))
			// The application's SYN leaves by the route to the VIP before it
			// is redirected; the sidecar's SYN-ACK comes by lo.
			Expect(q.Connection.App.MSSOut).To(BeEquivalentTo(1460))
			Expect(q.Connection.App.MSSIn).To(BeEquivalentTo(65495))
		}
	})

	Describe("request A", func() {
		It("is answered by one ICMP from the VIP and retransmitted at once", func() {
			Expect(a.Class).To(Equal(record.PMTURetransmit), "%v", a.ClassReasons)
			Expect(a.Status).To(Equal(200))
			Expect(a.Latency).To(BeNumerically("<", 100), "half of the shortest retransmission timeout")
			Expect(a.Counters["client"]["TcpExt.TCPTimeouts"]).To(BeZero())

			wire := a.Connection.Wire()
			data := packets(r, "client", "eth0", func(p *record.Packet) bool {
				src, dst, ok := p.Endpoints()
				return ok && p.Out && src == wire.Local && dst == wire.Remote && p.Length > 1000
			})
			Expect(data).To(HaveLen(2), "the segment, and what of it is sent again")
			Expect(data[0].Length).To(Equal(1500))
			Expect(data[0].DF).To(BeTrue())
			Expect(data[1].Length).To(Equal(1480))
			Expect(data[1].TCP.Seq).To(Equal(data[0].TCP.Seq))
		})

		It("moves these ICMP and fragmentation counters and no others", func() {
			Expect(counted(a.Counters)).To(Equal(map[string]map[string]int64{
				"client": {"Icmp.InMsgs": 1, "Icmp.InDestUnreachs": 1, "IcmpMsg.InType3": 1},
				"lb":     {"Icmp.OutMsgs": 1, "Icmp.OutDestUnreachs": 1, "IcmpMsg.OutType3": 1},
				"real":   {},
			}))
			Expect(a.Counters["client"]["Tcp.RetransSegs"]).To(BeNumerically(">=", 1))
		})
	})

	Describe("request B", func() {
		It("waits for the probe0 timer with nothing in flight", func() {
			Expect(b.Class).To(Equal(record.PMTUStall), "%v", b.ClassReasons)
			Expect(b.Status).To(Equal(200))
			Expect(r.Stalls).To(HaveLen(1))
			stall, wire := r.Stalls[0], b.Connection.Wire()
			Expect(stall.Connection).To(Equal("B"))
			Expect(stall.Samples).To(BeNumerically(">=", 8))
			Expect(stall.Waits[0].Kind).To(Equal(record.WaitProbe0))

			// The kernel arms the timer with the RTO, at least 200 ms.
			Expect(stall.Duration).To(BeNumerically(">=", 200))
			Expect(b.Wrote+stall.Duration).To(BeNumerically("~", stall.Predicted, 20), "one tick of 10 ms and 10 ms")

			samples := 0
			for _, e := range r.Timeline {
				if e.Socket == nil || e.Socket.Local != wire.Local || !diagnosis.Stalled(e.Socket) {
					continue
				}
				samples++
				Expect(e.Socket.Remote).To(Equal(wire.Remote))
				Expect(e.Socket.Timer).To(Equal(record.TimerProbe0))
				Expect(e.Socket.Unacked).To(BeZero())
				Expect(e.Socket.NotSent).To(BeEquivalentTo(b.Bytes), "all that was written was refused")
				Expect(e.Socket.SendMSS).To(BeEquivalentTo(1428))
				Expect(e.Socket.PMTU).To(BeEquivalentTo(1480))
				Expect(e.Socket.Retransmits).To(BeZero())
			}
			Expect(samples).To(Equal(stall.Samples))
		})

		It("moves these ICMP and fragmentation counters and no others", func() {
			Expect(counted(b.Counters)).To(Equal(map[string]map[string]int64{
				"client": {
					"Ip.FragFails": 1, "Icmp.InMsgs": 1, "Icmp.OutMsgs": 1, "Icmp.InDestUnreachs": 1, "Icmp.OutDestUnreachs": 1,
					"IcmpMsg.InType3": 1, "IcmpMsg.OutType3": 1,
				},
				"lb":   {},
				"real": {},
			}))
			Expect(b.Counters["client"]["Tcp.RetransSegs"]).To(BeZero())
			Expect(b.Counters["client"]["TcpExt.TCPTimeouts"]).To(BeZero())
		})
	})

	It("has every ICMP come from where it should", func() {
		fragNeeded := func(p *record.Packet) bool { return p.FragNeeded() && !p.Out }
		fromPath := packets(r, "client", "eth0", fragNeeded)
		Expect(fromPath).To(HaveLen(1))
		Expect(fromPath[0].Source).To(Equal(vip), "the load balancer speaks as the VIP, not as %s", lbIP)
		Expect(fromPath[0].Destination).To(Equal(clientIP))
		Expect(fromPath[0].ICMP.MTU).To(Equal(1480))
		Expect(fromPath[0].ICMP.Quoted.Length).To(Equal(1500))
		Expect(fromPath[0].ICMP.Quoted.TCP.SourcePort).To(Equal(a.Connection.Wire().Local.Port()))

		toItself := packets(r, "client", "lo", fragNeeded)
		Expect(toItself).To(HaveLen(1), "lo is counted once")
		Expect(toItself[0].Source).To(Equal(clientIP))
		Expect(toItself[0].Destination).To(Equal(clientIP))
		Expect(toItself[0].ICMP.MTU).To(Equal(1480))
		Expect(toItself[0].ICMP.Quoted.Length).To(Equal(1500))
		Expect(toItself[0].ICMP.Quoted.TCP.SourcePort).To(Equal(b.Connection.Wire().Local.Port()))
	})

	It("leaves an exception of mtu 1480 for ten minutes", func() {
		Expect(r.Exceptions).To(HaveLen(1))
		x := r.Exceptions[0]
		Expect(x.Node).To(Equal("client"))
		Expect(x.Destination).To(Equal(vip))
		Expect(x.MTU).To(Equal(1480))
		Expect(x.ExpiresS).To(BeNumerically("~", 597, 3))
	})

	It("sends every request through the IPIP tunnel and the answers around it", func() {
		tunnelled := packets(r, "lb", "eth0", func(p *record.Packet) bool { return p.Inner != nil && p.Out })
		Expect(tunnelled).NotTo(BeEmpty())
		for _, p := range tunnelled {
			Expect(p.Source).To(Equal(lbIP))
			Expect(p.Destination).To(Equal(realIP))
			Expect(p.Inner.Source).To(Equal(clientIP))
			Expect(p.Inner.Destination).To(Equal(vip))
			Expect(p.Length).To(BeNumerically("<=", 1500))
		}
		back := packets(r, "lb", "eth0", func(p *record.Packet) bool { return p.Source == vip && p.TCP != nil })
		Expect(back).To(BeEmpty())
	})
})

var _ = Describe("The field report without a sidecar", needs("report", scenario.Scenario.WithoutSidecars), func() {
	It("stalls the application's own socket", func(ctx SpecContext) {
		r := perform(ctx, parse("report", nil).WithoutSidecars())
		Expect(r.Verdict).To(Equal(record.Pass), "%v", r.Reasons)
		Expect(request(r, "B").Class).To(Equal(record.PMTUStall))
		Expect(request(r, "B").Connection.Upstream).To(BeNil())
	})
})

var _ = Describe("The field report, varied", needs("report"), func() {
	It("refuses every segment of a longer request", func(ctx SpecContext) {
		// Linux 5.10 refuses three at most: those that it has put into one buffer.
		r := perform(ctx, parse("report", map[string]string{"segments": "3"}))
		Expect(r.Verdict).To(Equal(record.Pass), "%v", r.Reasons)
		Expect(request(r, "B").Bytes).To(Equal(3 * 1448))
		Expect(request(r, "B").Counters["client"]).To(HaveKeyWithValue("Ip.FragFails", BeEquivalentTo(3)))
		Expect(packets(r, "client", "eth0", func(p *record.Packet) bool { return p.Out && p.Length > 1500 })).To(BeEmpty(), "no aggregates of segmentation offload")
	})

	It("follows the MTU of the links", func(ctx SpecContext) {
		r := perform(ctx, parse("report", map[string]string{"mtu": "1450"}))
		Expect(r.Verdict).To(Equal(record.Pass), "%v", r.Reasons)
		Expect(r.Exceptions).To(ContainElement(HaveField("MTU", 1430)))
	})
})
