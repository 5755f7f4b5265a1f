//go:build linux && kernel

package e2e

import (
	"os"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/pmtulab/pmtulab/lab/record"
)

// fast lets exceptions live for two seconds, the least that the steps need.
var fast = map[string]string{"expires": "2"}

var _ = Describe("Question 4: a PMTU exception that expires under established connections", needs("question-4"), func() {
	It("stalls the connection whose MSS has grown back, once another has learned the path MTU again", func(ctx SpecContext) {
		r := perform(ctx, parse("question-4", fast))
		Expect(r.Verdict).To(Equal(record.Pass), "%v", r.Reasons)

		By("seeing the exception come, go and come again")
		Expect(learned(r, "client")).To(Equal([]record.RouteChange{record.RouteLearned, record.RouteGone, record.RouteLearned}))

		opened := request(r, "B1")
		Expect(opened.Connection.Wire().MSSOut).To(BeEquivalentTo(1440), "B was opened while the exception was there")
		Expect([]int{opened.SendMSS, opened.PMTU}).To(Equal([]int{1428, 1480}))

		By("leaving it a dead route for one request: the device blackhole has an MTU of 68")
		tiny := request(r, "B2")
		Expect(tiny.Class).To(Equal(record.TinySegments), "%v", tiny.ClassReasons)
		Expect(packets(r, "client", "eth0", func(p *record.Packet) bool { return p.Out && p.TCP != nil && p.TCP.Payload == 36 })).
			NotTo(BeEmpty(), "the least MSS is 48, of which timestamps take 12")

		stalled := request(r, "B4")
		Expect([]int{stalled.SendMSS, stalled.PMTU}).To(Equal([]int{1448, 1500}), "its MSS has grown back")
		Expect(stalled.Class).To(Equal(record.PMTUStall), "%v", stalled.ClassReasons)
		Expect(r.Stalls).To(ConsistOf(HaveField("Request", "B4")))
		Expect(stalled.Counters["client"]).To(HaveKeyWithValue("Ip.FragFails", BeEquivalentTo(1)))
		Expect(stalled.Counters["client"]["Tcp.RetransSegs"]).To(BeZero())
		Expect(stalled.Counters["lb"]["Icmp.OutDestUnreachs"]).To(BeZero())
	})

	It("only retransmits when that connection is the first to write", func(ctx SpecContext) {
		before, err := os.ReadFile("/proc/sys/net/ipv4/route/mtu_expires")
		Expect(err).NotTo(HaveOccurred())
		r := perform(ctx, parse("question-4-retransmit", fast))
		Expect(os.ReadFile("/proc/sys/net/ipv4/route/mtu_expires")).To(Equal(before), "before Linux 6.1 the lifetime is the machine's")
		Expect(r.Verdict).To(Equal(record.Pass), "%v", r.Reasons)
		Expect(r.Lifetimes).To(HaveLen(1))
		Expect(r.Lifetimes[0]).To(And(HaveField("Node", "client"), HaveField("IPv4S", 2), HaveField("IPv6S", 600)), "IPv6 has the kernel's default")
		Expect(r.Stalls).To(BeEmpty())
		again := request(r, "B2")
		Expect(again.Class).To(Equal(record.PMTURetransmit), "%v", again.ClassReasons)
		Expect(again.Counters["lb"]).To(HaveKeyWithValue("Icmp.OutDestUnreachs", BeEquivalentTo(1)))
		Expect(again.Counters["client"]["Ip.FragFails"]).To(BeZero())
	})
})

// learned are the changes of what a node has learned, in order.
func learned(r record.Result, node string) []record.RouteChange {
	var changes []record.RouteChange
	for _, e := range r.Timeline {
		if e.Route != nil && e.Node == node {
			changes = append(changes, e.Route.Change)
		}
	}
	return changes
}
