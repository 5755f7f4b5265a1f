// Package record holds the words of a run: what was built, what happened to
// every request, what was counted, and the verdict. It is plain data with one
// published JSON form, shared by the code that measures, the code that explains
// and the code that prints. It builds on every operating system.
package record

import "slices"

// Verdict is the outcome of a run as a whole.
type Verdict string

const (
	// Pass: every expectation was met and no evidence was lost.
	Pass Verdict = "pass"
	// Fail: an expectation was measured and not met.
	Fail Verdict = "fail"
	// Unsupported: this kernel or machine lacks something the scenario needs.
	Unsupported Verdict = "unsupported"
	// Error: the laboratory or its guest failed; nothing is said about the kernel.
	Error Verdict = "error"
	// Inconclusive: evidence was lost or the clock was unfit.
	Inconclusive Verdict = "inconclusive"
)

// Exit codes of the command. ExitUsage has no verdict: nothing was run.
const (
	ExitPass         = 0
	ExitFail         = 1
	ExitUsage        = 2
	ExitUnsupported  = 3
	ExitError        = 4
	ExitInconclusive = 5
)

// ExitCode is the exit code of a command that ends with verdict v.
func (v Verdict) ExitCode() int {
	switch v {
	case Pass:
		return ExitPass
	case Fail:
		return ExitFail
	case Unsupported:
		return ExitUnsupported
	case Inconclusive:
		return ExitInconclusive
	default:
		return ExitError
	}
}

// Worse tells whether v weighs more than other when several runs are judged
// together. An error comes first, for the series is then not complete; a failure
// that was measured stands, whatever other runs could not tell.
func (v Verdict) Worse(other Verdict) bool {
	order := []Verdict{Pass, Inconclusive, Fail, Unsupported, Error}
	return slices.Index(order, v) > slices.Index(order, other)
}

// GuestOutcome is how a guest ended. Only Finished says anything about the
// program that ran in it.
type GuestOutcome string

const (
	// GuestFinished: the guest reported the program's exit code.
	GuestFinished GuestOutcome = "finished"
	// GuestPanic: the kernel log shows a panic.
	GuestPanic GuestOutcome = "panic"
	// GuestOops: the kernel log shows an oops, BUG or WARN that ended the run.
	GuestOops GuestOutcome = "oops"
	// GuestHangBoot: init did not report within the boot deadline.
	GuestHangBoot GuestOutcome = "hang at boot"
	// GuestHangRun: the program did not end within the run deadline.
	GuestHangRun GuestOutcome = "hang at run"
	// GuestLost: the guest ended without a final record.
	GuestLost GuestOutcome = "lost"
	// GuestInfrastructure: the guest could not be started or fed.
	GuestInfrastructure GuestOutcome = "infrastructure"
)

// Class names what happened to one request.
type Class string

const (
	// Clean: no refused segment, no ICMP, no retransmission.
	Clean Class = "clean"
	// PMTURetransmit is the field report's request A: an ICMP frag-needed
	// from the path, answered at once by a retransmission.
	PMTURetransmit Class = "pmtu-retransmit"
	// PMTUStall is the field report's request B: the kernel refused its own
	// segment, nothing was in flight, and the data waited for the probe0 timer.
	PMTUStall Class = "pmtu-stall"
	// Rescued: a segment was refused as in PMTUStall, but another event
	// pushed the queue before the probe0 timer.
	Rescued Class = "rescued"
	// TinySegments: the data went out in segments of a dead route's MTU.
	TinySegments Class = "tiny-segments"
	// BlackHole: full-size segments were lost without an ICMP.
	BlackHole Class = "black-hole"
	// Fragmented: segments crossed the path as IP fragments.
	Fragmented Class = "fragmented"
	// Unclassified: the evidence fits no class; the reasons say what was seen.
	Unclassified Class = "unclassified"
)

// Classes lists all classes.
func Classes() []Class {
	return []Class{Clean, PMTURetransmit, PMTUStall, Rescued, TinySegments, BlackHole, Fragmented, Unclassified}
}
