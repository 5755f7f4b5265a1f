//go:build linux && kernel

package e2e

import (
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/pmtulab/pmtulab/lab"
	"github.com/pmtulab/pmtulab/lab/evidence"
	"github.com/pmtulab/pmtulab/lab/record"
)

// The three stacks that the field report prints, of Linux 5.15, without offsets.
// Its tracer left out the caller of the function that it stood in front of:
// ip_fragment in the first, __tcp_transmit_skb in the third.
const (
	reportSent = `__icmp_send __ip_finish_output ip_finish_output ip_output ip_local_out __ip_queue_xmit ip_queue_xmit
		__tcp_transmit_skb tcp_write_xmit __tcp_push_pending_frames tcp_push tcp_sendmsg_locked tcp_sendmsg inet_sendmsg
		sock_sendmsg sock_write_iter do_iter_readv_writev do_iter_write vfs_writev do_writev __x64_sys_writev do_syscall_64
		entry_SYSCALL_64_after_hwframe`
	reportReceived = `tcp_v4_err icmp_unreach icmp_rcv ip_protocol_deliver_rcu ip_local_deliver_finish ip_local_deliver ip_rcv
		__netif_receive_skb_one_core __netif_receive_skb process_backlog __napi_poll net_rx_action __do_softirq do_softirq
		__local_bh_enable_ip __icmp_send ip_fragment __ip_finish_output ip_finish_output ip_output ip_local_out
		__ip_queue_xmit ip_queue_xmit __tcp_transmit_skb tcp_write_xmit __tcp_push_pending_frames tcp_push tcp_sendmsg_locked
		tcp_sendmsg inet_sendmsg sock_sendmsg sock_write_iter do_iter_readv_writev do_iter_write vfs_writev do_writev
		__x64_sys_writev do_syscall_64 entry_SYSCALL_64_after_hwframe`
	reportProbed = `tcp_v4_send_check tcp_write_wakeup tcp_send_probe0 tcp_probe_timer tcp_write_timer_handler tcp_write_timer
		call_timer_fn __run_timers run_timer_softirq __do_softirq irq_exit_rcu sysvec_apic_timer_interrupt
		asm_sysvec_apic_timer_interrupt`
)

// inlined are frames of the report that compilers inline into their callers, or
// call as the last thing that a function does, in kernels from 5.10 to 7.3.
var inlined = strings.Fields(`__ip_finish_output ip_finish_output ip_output ip_local_out ip_queue_xmit tcp_push inet_sendmsg
	sock_sendmsg do_iter_write __x64_sys_writev ip_local_deliver ip_rcv __netif_receive_skb __napi_poll do_softirq
	tcp_probe_timer tcp_write_timer_handler __run_timers irq_exit_rcu tcp_v4_send_check`)

// added are frames that the report has not: of the tracer's blind spot, and what
// other kernels call otherwise or have not inlined.
var added = strings.Fields(`ip_fragment __tcp_transmit_skb __sock_sendmsg asm_call_irq_on_stack do_softirq_own_stack
	__irq_exit_rcu __run_timer_base`)

// renamed are frames by their names in the report.
var renamed = map[string]string{"handle_softirqs": "__do_softirq"}

// differences compares a stack with one of the report: frames that it lacks, and
// frames that it has in addition; the rest is the same, in the same order.
func differences(stack []string, report string) (lacks, adds []string) {
	want := strings.Fields(report)
	for _, frame := range stack {
		frame, _, _ = strings.Cut(frame, ".") // .constprop.0, .part.0
		if name, ok := renamed[frame]; ok {
			frame = name
		}
		at := slices.Index(want, frame)
		if at < 0 {
			adds = append(adds, frame)
			continue
		}
		lacks, want = append(lacks, want[:at]...), want[at+1:]
	}
	return append(lacks, want...), adds
}

var _ = Describe("The stacks of the field report", Ordered, ContinueOnFailure, needs("report"), Label("kprobes"), func() {
	var r record.Result
	BeforeAll(func(ctx SpecContext) {
		lab.Require(GinkgoT(), lab.Missing(lab.Try(evidence.FunctionsNeed())))
		// A kernel that is busy leaves packets to the thread ksoftirqd: the ICMP
		// then comes after the write, as it did not in the report.
		for range 3 {
			r = perform(ctx, parse("report", nil))
			Expect(r.Probes.Unavailable).To(BeEmpty())
			if !slices.ContainsFunc(r.Timeline, func(e record.Event) bool {
				return e.Call != nil && e.Call.Function == "tcp_v4_err" && slices.Contains(e.Call.Stack, "run_ksoftirqd")
			}) {
				return
			}
		}
	})

	// call is the only call of a function for the wire leg of request B.
	call := func(function string) record.Call {
		GinkgoHelper()
		b := request(r, "B")
		var found []record.Call
		for _, e := range r.Timeline {
			if e.Call != nil && e.Call.Function == function && e.Call.Source == b.Connection.Wire().Local && e.At >= b.Wrote {
				found = append(found, *e.Call)
			}
		}
		Expect(found).To(HaveLen(1), "calls of %s", function)
		return found[0]
	}

	// same tells that stack is one of the report, but for the differences named
	// above.
	same := func(stack []string, report string) {
		GinkgoHelper()
		lacks, adds := differences(stack, report)
		AddReportEntry("differences to the report", "lacks "+strings.Join(lacks, " ")+"; adds "+strings.Join(adds, " "))
		Expect(inlined).To(ContainElements(lacks), "%v", stack)
		Expect(added).To(ContainElements(adds), "%v", stack)
	}

	It("has the ICMP sent from within tcp_sendmsg", func() {
		sent := call("__icmp_send")
		Expect(sent.Arguments).To(Equal([]record.Argument{{Name: "type", Value: 3}, {Name: "code", Value: 4}, {Name: "info", Value: 1480}}))
		same(sent.Stack, reportSent)
		for _, function := range []string{"ip_fragment", "__tcp_transmit_skb"} {
			Expect(call(function).Returned).To(HaveValue(BeEquivalentTo(-90)), "%s: EMSGSIZE", function)
		}
	})

	It("has the ICMP received while the sender owns the socket, and the MTU reduced when it is released", func() {
		same(call("tcp_v4_err").Stack, reportReceived)
		Expect(call("tcp_v4_mtu_reduced").Stack).To(ContainElements(HavePrefix("tcp_release_cb"), HavePrefix("release_sock")))
		Expect(call("tcp_simple_retransmit").Stack).To(ContainElement(HavePrefix("tcp_release_cb")))
	})

	It("has the data sent by the probe timer", func() {
		function := "tcp_v4_send_check"
		if neighbour, absent := r.Probes.Instead[function]; absent {
			function = neighbour
		}
		// What the interrupt found the processor doing is chance.
		stack := call(function).Stack
		Expect(stack).To(ContainElement("asm_sysvec_apic_timer_interrupt"))
		same(stack[:slices.Index(stack, "asm_sysvec_apic_timer_interrupt")+1], reportProbed)
	})
})
