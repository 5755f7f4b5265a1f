//go:build linux && kernel

package e2e

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/pmtulab/pmtulab/lab/record"
)

// The remedies of the field report, each on its own: made before any connection
// exists, and live, while A and B are idle.
var _ = Describe("The field report's mitigations", needs("report"), func() {
	none := map[string]map[string]int64{"client": {}, "lb": {}, "real": {}}

	DescribeTable("leave both requests clean", func(ctx SpecContext, mitigation string, live bool, offered, answered int) {
		r := perform(ctx, with(parse("report", nil), mitigation, live))
		Expect(r.Verdict).To(Equal(record.Pass), "%v", r.Reasons)
		Expect(r.Mitigations).To(ConsistOf(And(HaveField("Name", mitigation), HaveField("Live", live))))
		for _, name := range []string{"A", "B"} {
			q := request(r, name)
			Expect(q.Class).To(Equal(record.Clean), "%v", q.ClassReasons)
			Expect(q.Connection.Wire().MSSOut).To(BeEquivalentTo(offered), "offered by the client")
			Expect(q.Connection.Wire().MSSIn).To(BeEquivalentTo(answered), "offered by the real server")
		}
		Expect(r.Stalls).To(BeEmpty())
		Expect(r.Exceptions).To(BeEmpty())
		Expect(counted(r.Counters)).To(Equal(none))
	},
		Entry("route mtu 1480 on the client", "client-route-mtu", false, 1440, 1460),
		Entry("device mtu 1480 on the client", "client-device-mtu", false, 1440, 1460),
		Entry("device mtu 1480 on the client, live", "client-device-mtu", true, 1460, 1460),
		Entry("route mtu 1480 on the real server", "server-route-mtu", false, 1460, 1440),
		Entry("advmss 1440 on the real server", "server-advmss", false, 1460, 1440),
	)

	It("stall every open connection once when the client's route is changed live", func(ctx SpecContext) {
		r := perform(ctx, with(parse("report", nil), "client-route-mtu", true))
		Expect(r.Verdict).To(Equal(record.Pass), "%v", r.Reasons)
		Expect(r.Stalls).To(ConsistOf(HaveField("Request", "A"), HaveField("Request", "B")))
		Expect(r.Counters["client"]).To(HaveKeyWithValue("Ip.FragFails", BeEquivalentTo(2)), "one refused segment for each")
		Expect(r.Counters["lb"]).NotTo(HaveKey("Icmp.OutDestUnreachs"), "nothing too long reached the load balancer")
	})

	DescribeTable("come too late for open connections when they are made live on the real server", func(ctx SpecContext, mitigation string) {
		r := perform(ctx, with(parse("report", nil), mitigation, true))
		Expect(r.Verdict).To(Equal(record.Pass), "%v", r.Reasons)
		Expect(request(r, "A").Class).To(Equal(record.PMTURetransmit))
		Expect(request(r, "B").Class).To(Equal(record.PMTUStall))
	},
		Entry("route mtu 1480", "server-route-mtu"),
		Entry("advmss 1440", "server-advmss"),
	)

	DescribeTable("lose packets when the real server's veth has the tunnel's MTU", func(ctx SpecContext, live bool) {
		r := perform(ctx, with(parse("report", nil), "server-device-mtu", live))
		Expect(r.Verdict).To(Equal(record.Pass), "%v", r.Reasons)
		for _, name := range []string{"A", "B"} {
			q := request(r, name)
			Expect(q.Class).To(Equal(record.BlackHole), "%v", q.ClassReasons)
			// Each copy of the segment is dropped, and so is the one that the
			// load balancer's ICMP had shortened.
			Expect(q.Counters["real"]["Device.eth0.RxDropped"]).To(BeNumerically(">=", 3), "the packets arrive, and are dropped by the device")
			Expect(q.Counters["client"]["Tcp.RetransSegs"]).To(BeNumerically(">=", 2))
		}
	},
		Entry("before any connection", false),
		Entry("live", true),
	)
})
