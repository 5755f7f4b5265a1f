package ktrace

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pmtulab/pmtulab/lab/record"
)

// sample is what Linux 6.1 wrote, with an interrupt between a record and its
// stack, a task with a name like a record, and a gap.
const sample = `         pmtulab-82      [000] d..1.     2.521930: tcp_sync_mss: (tcp_sync_mss+0x0/0x100) sp=0xffffc90000403c48 space=4026532144 pmtu=1480
          <idle>-0       [000] d.s1.     2.521940: __icmp_send: (__icmp_send+0x0/0x6f0) sp=0xffffc90000003d10 space=4026532145 type=3 code=4 info=3355770880 source=16777226 destination=33554442 source_port=33476 destination_port=47873 header=69 protocol=6
          <idle>-0       [000] d.s1.     2.521941: <stack trace>
 => __icmp_send
 => ip_fragment.constprop.0
         pmtulab-82      [000] d..1.     2.521942: <stack trace>
 => tcp_sync_mss
 => tcp_v4_mtu_reduced
CPU:0 [LOST 12 EVENTS]
 x: y: (-1 [000] -83      [001] d..1.     2.521955: tcp_sync_mss_returned: (tcp_v4_mtu_reduced+0x5/0x10 <- tcp_sync_mss) sp=0xffffc90000403c50 returned=-90
`

func parsed(text string) *trace {
	t := newTrace()
	for line := range strings.Lines(text) {
		t.line(strings.TrimSuffix(line, "\n"))
	}
	return t
}

func TestParse(t *testing.T) {
	got := parsed(sample)
	want := []struct {
		event       string
		cpu, thread int
		at          time.Duration
		stack       []string
	}{
		{"tcp_sync_mss", 0, 82, 2521930 * time.Microsecond, []string{"tcp_sync_mss", "tcp_v4_mtu_reduced"}},
		{"__icmp_send", 0, 0, 2521940 * time.Microsecond, []string{"__icmp_send", "ip_fragment.constprop.0"}},
		{"tcp_sync_mss_returned", 1, 83, 2521955 * time.Microsecond, nil},
	}
	if len(got.hits) != len(want) {
		t.Fatalf("%d hits, want %d: %+v", len(got.hits), len(want), got.hits)
	}
	for i, w := range want {
		h := got.hits[i]
		if h.event != w.event || h.cpu != w.cpu || h.thread != w.thread || h.at != w.at || !slices.Equal(h.stack, w.stack) {
			t.Errorf("hit %d is %+v, want %+v", i, h, w)
		}
	}
	if got := got.hits[2].values["returned"]; got != -90 {
		t.Errorf("returned %d, want -90", got)
	}
	gaps := []gap{{after: 2521942 * time.Microsecond, before: 2521955 * time.Microsecond, count: 12}}
	if diff := cmp.Diff(gaps, got.gaps, cmp.AllowUnexported(gap{})); diff != "" {
		t.Error(diff)
	}
}

// The arguments of a hit, with addresses and ports in the order of the network.
func TestCall(t *testing.T) {
	for _, f := range functions() {
		if f.name != "__icmp_send" {
			continue
		}
		c := probe{f, f.name}.call(parsed(sample).hits[1])
		if got, want := c.Text(), "__icmp_send(type 3, code 4, info 1480) ← ip_fragment.constprop.0"; got != want {
			t.Errorf("call is %s, want %s", got, want)
		}
		if got, want := c.Source.String()+" "+c.Destination.String(), "10.0.0.1:50306 10.0.0.2:443"; got != want {
			t.Errorf("ends are %s, want %s", got, want)
		}
	}
}

// A thread's calls, with the stack pointers of their beginnings: a return is
// that of the call in whose place it is, and a stack that ends at a return probe
// goes on with that of the call that it ends at.
func TestJoin(t *testing.T) {
	const unknown = "[unknown/kretprobe'd]"
	j := joiner{live: map[stack][]int{}, refused: map[int]bool{}}
	at := func(sp int64, returned int64) hit {
		return hit{thread: 7, values: map[string]int64{"sp": 0x10000 + sp, "returned": returned}}
	}
	enter := func(sp int64, stack ...string) {
		function, _, _ := strings.Cut(stack[0], ".")
		j.entered(at(sp, 0), Call{Call: record.Call{Function: function, Stack: stack}})
	}
	enter(900, "transmit", "write", "syscall")
	enter(800, "transmit", "softirq", "outer", "syscall") // within; returns 0, unseen
	enter(850, "fragment.isra.0", "output", "transmit", unknown)
	enter(700, "__icmp_send", "fragment.isra.0", unknown)
	j.returned(at(858, -90), "fragment")
	j.returned(at(950, 5), "transmit") // of a call elsewhere
	j.returned(at(916, -90), "transmit")

	want := [][]string{
		{"transmit", "write", "syscall"},
		{"transmit", "softirq", "outer", "syscall"},
		{"fragment.isra.0", "output", "transmit", "write", "syscall"},
		{"__icmp_send", "fragment.isra.0", "output", "transmit", "write", "syscall"},
	}
	for i, c := range j.calls {
		if !slices.Equal(c.Stack, want[i]) {
			t.Errorf("stack of call %d is %v, want %v", i, c.Stack, want[i])
		}
		failed := i == 0 || i == 2
		if (c.Returned != nil) != failed || failed && *c.Returned != -90 {
			t.Errorf("call %d returned %v; only 0 and 2 returned -90", i, c.Returned)
		}
		if j.refused[i] != (i == 0 || i == 2) {
			t.Errorf("call %d sent an ICMP: %v", i, j.refused[i])
		}
	}
}

// What there is no memory for is one gap with a count.
func TestLimit(t *testing.T) {
	line, _, _ := strings.Cut(sample, "\n")
	got := newTrace()
	for range mostHits + 3 {
		got.line(line)
	}
	want := []gap{{2521930 * time.Microsecond, 2521930 * time.Microsecond, 3}}
	if diff := cmp.Diff(want, got.gaps, cmp.AllowUnexported(gap{})); len(got.hits) != mostHits || diff != "" {
		t.Errorf("%d hits, gaps (-want +got): %s", len(got.hits), diff)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample)
	f.Add("CPU:0 [LOST 1 EVENTS]\n => frame\n")
	f.Fuzz(func(t *testing.T, text string) {
		got := parsed(text)
		if n := strings.Count(text, "\n") + 1; len(got.hits)+len(got.gaps) > n {
			t.Errorf("%d hits and %d gaps of %d lines", len(got.hits), len(got.gaps), n)
		}
		trace := Trace{trace: got, spaces: []uint32{4026532145}}
		for _, f := range functions() {
			trace.probes = append(trace.probes, probe{f, f.name})
		}
		for _, c := range trace.calls() {
			if len(c.Stack) == 0 {
				t.Errorf("a call without a stack: %+v", c)
			}
		}
	})
}
