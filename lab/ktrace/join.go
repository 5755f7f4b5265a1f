// From records of probes to calls.

package ktrace

import (
	"slices"
)

// joiner follows the stacks of the kernel's threads.
type joiner struct {
	calls []Call
	// sps are the stack pointers at the beginnings of calls.
	sps []int64
	// live are the calls that may not have returned, on each stack, the outer
	// ones first.
	live map[stack][]int
	// refused are the calls that sent an ICMP.
	refused map[int]bool
}

// stack is a piece of memory: a thread's own stack, or that of the interrupts of
// a processor which it was on.
type stack struct {
	thread, cpu int
	memory      int64
}

// stackSize is THREAD_SIZE and IRQ_STACK_SIZE of x86-64; stacks are aligned to it.
const stackSize = 16 << 10

// stackOf is where a hit was. All idle processors have one thread number.
func stackOf(h hit) stack {
	s := stack{thread: h.thread, memory: h.values["sp"] / stackSize}
	if h.thread == 0 {
		s.cpu = h.cpu
	}
	return s
}

// entered adds a call. What lies at or below its stack pointer has returned.
func (j *joiner) entered(h hit, c Call) {
	c.Stack = j.mend(h, c.Stack)
	on, sp := stackOf(h), h.values["sp"]
	if c.Function == "__icmp_send" {
		for _, i := range j.live[on] {
			if slices.Contains(c.Stack, j.calls[i].Stack[0]) {
				j.refused[i] = true
			}
		}
	}
	j.live[on] = append(slices.DeleteFunc(j.live[on], func(i int) bool { return j.sps[i] <= sp }), len(j.calls))
	j.calls, j.sps = append(j.calls, c), append(j.sps, sp)
}

// returned tells the latest call of a function what it returned. The return
// address is gone from the stack by then, and kernels differ in what they have
// put there instead. Calls in other namespaces return as well: they are not here.
func (j *joiner) returned(h hit, function string) {
	on := stackOf(h)
	for n, i := range slices.Backward(j.live[on]) {
		if off := h.values["sp"] - j.sps[i]; j.calls[i].Function == function && off >= 0 && off <= 16 {
			value := h.values["returned"]
			j.calls[i].Returned = &value
			j.live[on] = j.live[on][:n]
			return
		}
	}
}

// mend completes a stack that ends at a call with a return probe: before Linux
// 5.15 the kernel cannot look behind its address. That call's own stack goes on.
func (j *joiner) mend(h hit, frames []string) []string {
	n := len(frames) - 1
	if n < 1 || frames[n] != "[unknown/kretprobe'd]" {
		return frames
	}
	latest, at := -1, stackOf(h)
	for on, live := range j.live {
		if on.thread != at.thread || on.cpu != at.cpu {
			continue
		}
		for _, i := range live {
			here := on != at || j.sps[i] > h.values["sp"]
			if here && j.calls[i].Stack[0] == frames[n-1] {
				latest = max(latest, i)
			}
		}
	}
	if latest < 0 {
		return frames
	}
	return slices.Concat(frames[:n], j.calls[latest].Stack[1:])
}

// calls joins entries with returns and keeps the calls worth telling.
func (t *Trace) calls() []Call {
	probes := map[string]probe{}
	for _, p := range t.probes {
		probes[p.name] = p
		if p.returns != "" {
			probes[p.name+returnSuffix] = p
		}
	}
	j := joiner{live: map[stack][]int{}, refused: map[int]bool{}}
	for _, h := range t.trace.hits {
		p, ok := probes[h.event]
		space := uint32(h.values["space"])
		switch {
		case !ok:
		case h.event != p.name:
			j.returned(h, p.name)
		case slices.Contains(t.spaces, space):
			j.entered(h, Call{At: h.at, Space: space, Call: p.call(h)})
		}
	}
	var calls []Call
	for i, c := range j.calls {
		p := probes[c.Function]
		if (p.keep == nil || p.keep(c)) && (!p.refuses || j.refused[i]) {
			calls = append(calls, c)
		}
	}
	return calls
}
