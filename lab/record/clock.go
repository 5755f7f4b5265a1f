package record

import "fmt"

// Clock tells how well the machine under test kept time just before a run.
type Clock struct {
	// Source is the name of the kernel's clocksource.
	Source string `json:"clocksource"`
	// Step is the least by which its monotonic clock advances, 0 for less than a
	// microsecond.
	Step Ms `json:"step_ms"`
	// Jitter is the worst overshoot of a dozen short sleeps.
	Jitter Ms `json:"sleep_jitter_ms"`
	// Steal is how long a hypervisor kept one processor for something else
	// meanwhile, the one that lost most, in steps of 10 ms.
	Steal Ms `json:"steal_ms"`
	// Took is how long it took to find out.
	Took Ms `json:"took_ms"`
}

// What a clock must do better than. The shortest wait with a name, a delayed
// ACK, takes 40 ms: what the machine adds at both ends of a request must not
// look like one. The one narrower claim, that a stall ended within 10 ms and a
// tick of its timer, is held against the samples of the run itself. A step of a
// whole tick would hide the order of packets.
//
// A guest just booted, in User-Mode Linux or translated by QEMU, overshoots by
// 0.4 to 1.1 ms on an idle host, by 0.5 to 5 ms with a busy loop on each of its
// processors (medians; most: 15.7 ms). A clock of jiffies steps by 4 ms.
const (
	clockLate = Ms(20)
	clockStep = Ms(1)
)

// Unfit says why the clock is not fit for the claims of a run, one reason each;
// none when it is.
func (c Clock) Unfit() []string {
	var why []string
	if c.Step >= clockStep {
		why = append(why, fmt.Sprintf("the clock %s advances by %.1f ms at a time, less than %g ms is needed; boot with another clocksource", c.Source, c.Step, clockStep))
	}
	if c.Jitter > clockLate {
		why = append(why, fmt.Sprintf("a short sleep ended %.1f ms late, at most %g ms is allowed; run when the machine is less busy, with fewer jobs at a time, or with KVM", c.Jitter, clockLate))
	}
	if c.Steal > clockLate {
		why = append(why, fmt.Sprintf("a hypervisor took a processor away for %.0f ms of %.0f, at most %g ms is allowed; run where it is not shared", c.Steal, c.Took, clockLate))
	}
	return why
}
