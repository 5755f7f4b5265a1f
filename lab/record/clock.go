package record

import "fmt"

// Clock tells how well the machine under test kept time just before a run.
type Clock struct {
	// Source is the name of the kernel's clocksource.
	Source string `json:"clocksource"`
	// Step is the least by which its monotonic clock advances, 0 for less than a
	// microsecond.
	Step Ms `json:"step_ms"`
	// Jitter is the worst overshoot of a short sleep.
	Jitter Ms `json:"sleep_jitter_ms"`
	// Steal is how long a hypervisor kept the processors for something else
	// meanwhile, in steps of 10 ms.
	Steal Ms `json:"steal_ms"`
	// Took is how long it took to find out.
	Took Ms `json:"took_ms"`
}

// What a clock must do better than: the narrowest claim of a run is that a
// stall ends within 20 ms of the timer that it waits for, and the shortest wait
// with a name, a delayed ACK, takes 40 ms. A step of a whole tick would hide
// the order of packets.
const (
	clockJitter = Ms(20)
	clockStep   = Ms(1)
)

// Unfit says why the clock is not fit for the claims of a run, one reason each;
// none when it is.
func (c Clock) Unfit() []string {
	var why []string
	if c.Step >= clockStep {
		why = append(why, fmt.Sprintf("the clock %s advances by %.1f ms at a time, and must by less than %g; boot with another clocksource", c.Source, c.Step, clockStep))
	}
	if c.Jitter > clockJitter {
		why = append(why, fmt.Sprintf("a short sleep ended %.1f ms late, and may by %g; run when the machine is less busy, or fewer jobs at a time", c.Jitter, clockJitter))
	}
	if c.Steal > clockJitter {
		why = append(why, fmt.Sprintf("the hypervisor took the processors away for %.0f ms of %.0f, and may for %g; run where they are not shared", c.Steal, c.Took, clockJitter))
	}
	return why
}
