package record

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Schema names the JSON form of Result.
const Schema = "pmtulab/result/v1"

// Result is all that is kept of one run.
type Result struct {
	Schema   string  `json:"schema"`
	Scenario string  `json:"scenario"`
	Verdict  Verdict `json:"verdict"`
	// Reasons says why the verdict is not Pass, one sentence each.
	Reasons []string `json:"reasons,omitempty"`
	// Partial is true when the run ended before its last step.
	Partial bool `json:"partial,omitempty"`
	// Started is the wall-clock moment that all Ms moments count from.
	Started time.Time `json:"started"`
	// DurationMs is how long the run took inside the kernel under test.
	Duration Ms      `json:"duration_ms"`
	Runtime  Runtime `json:"runtime"`
	// Clock is absent when the run ended before it was measured.
	Clock *Clock `json:"clock,omitempty"`
	// Settings are the scenario's settings in force, by name.
	Settings map[string]string `json:"settings,omitempty"`
	// Drawing is the network as text, at most 100 columns wide.
	Drawing []string `json:"drawing,omitempty"`
	// Mitigations are the changes that were made to the network, in order.
	Mitigations []Mitigation `json:"mitigations,omitempty"`
	// Links are the interfaces as the kernel reported them after bring-up.
	Links    []Link    `json:"links,omitempty"`
	Requests []Request `json:"requests"`
	Stalls   []Stall   `json:"stalls"`
	// Counters holds the change of every kernel counter over the traffic,
	// by node and "Protocol.Name"; counters that did not move are left out.
	Counters   map[string]map[string]int64 `json:"counters"`
	Exceptions []Exception                 `json:"exceptions"`
	// Lifetimes tell how long the exceptions of each client live.
	Lifetimes    []Lifetime    `json:"lifetimes,omitempty"`
	Expectations []Expectation `json:"expectations"`
	Timeline     []Event       `json:"timeline,omitempty"`
	// Losses lists evidence that is known to be missing.
	Losses []Loss `json:"losses,omitempty"`
	// Figures tell how good the evidence is, and what it cost.
	Figures Figures `json:"figures"`
	// Probes tells which kernel functions were watched.
	Probes *Probes `json:"probes,omitempty"`
	// Arithmetic shows where the MTU and MSS figures come from.
	Arithmetic []string `json:"arithmetic,omitempty"`
	// Conclusion explains the run in a few sentences.
	Conclusion []string `json:"conclusion,omitempty"`
	// Phases is where the time of the run went, in order.
	Phases []Phase `json:"phases,omitempty"`
}

// Runtime tells on what the run was made.
type Runtime struct {
	// On is host, uml or qemu.
	On string `json:"on"`
	// Kernel is the release of the kernel under test (uname -r).
	Kernel string `json:"kernel"`
	// KernelRef is the reference that it was asked for by, as --kernel takes it;
	// empty when it was not.
	KernelRef string `json:"kernel_ref,omitempty"`
	// Accelerator is none, kvm or tcg.
	Accelerator string `json:"accelerator"`
	// AcceleratorReason says why it is that.
	AcceleratorReason string `json:"accelerator_reason,omitempty"`
	// Reason says why this place was chosen.
	Reason string `json:"reason"`
}

// Phase is one part of a run and how long it took.
type Phase struct {
	Name string `json:"name"`
	Ms   Ms     `json:"ms"`
}

// Link is one interface as the kernel reported it.
type Link struct {
	Node      string `json:"node"`
	Interface string `json:"interface"`
	MTU       int    `json:"mtu"`
	// Offloads holds the state of each offload by its ethtool name.
	Offloads map[string]bool `json:"offloads,omitempty"`
}

// Leg is one TCP connection, seen from the client's side.
type Leg struct {
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`
	// MSSOut and MSSIn are the MSS options of the two SYNs in bytes; 0 when
	// they were not captured.
	MSSOut uint16 `json:"mss_out,omitempty"`
	MSSIn  uint16 `json:"mss_in,omitempty"`
}

// Connection is the path of a request: the application's own TCP connection
// and, through a sidecar, the one that the sidecar made for it.
type Connection struct {
	Name     string `json:"name"`
	App      Leg    `json:"app"`
	Upstream *Leg   `json:"upstream,omitempty"`
}

// Wire is the leg that crosses the network.
func (c Connection) Wire() Leg {
	if c.Upstream != nil {
		return *c.Upstream
	}
	return c.App
}

// Request is one HTTPS request and what became of it.
type Request struct {
	Name       string     `json:"name"`
	Connection Connection `json:"connection"`
	// Bytes is the size of the request on the wire: TCP payload with TLS
	// records, without headers of TCP and IP.
	Bytes int `json:"bytes"`
	// SendMSS is the send MSS of the wire socket in bytes just before the
	// write (tcpi_snd_mss), PMTU the path MTU that the socket goes by
	// (tcpi_pmtu). The write looks at the route, and may change both.
	SendMSS int `json:"snd_mss"`
	PMTU    int `json:"pmtu"`
	// Wrote is when the application wrote the request.
	Wrote Ms `json:"wrote_ms"`
	// Connect, Handshake are how long TCP and TLS set-up took.
	Connect   Ms `json:"connect_ms"`
	Handshake Ms `json:"handshake_ms"`
	// FirstByte is from the write to the first byte of the response.
	FirstByte Ms `json:"first_byte_ms"`
	// Latency is from the write to the end of the response.
	Latency Ms `json:"latency_ms"`
	// Ended is when the application had the response, or gave up.
	Ended Ms `json:"ended_ms"`
	// Status is the HTTP status, 0 when the request failed.
	Status int `json:"status"`
	// Failure is the error of a request that failed.
	Failure string `json:"failure,omitempty"`
	Class   Class  `json:"class"`
	// ClassReasons are the observations that led to Class, each with the ids
	// of its events.
	ClassReasons []string `json:"class_reasons"`
	// Counters is as in Result, over this request alone.
	Counters map[string]map[string]int64 `json:"counters,omitempty"`
}

// WaitKind names what a stalled request waited for.
type WaitKind string

const (
	// WaitProbe0: the zero-window probe timer, though nothing was in flight.
	WaitProbe0 WaitKind = "probe0-timer"
	// WaitDelayedAck: the peer's delayed acknowledgement of the probe.
	WaitDelayedAck WaitKind = "delayed-ack"
	// WaitRTT: a round trip to whoever refused the packet.
	WaitRTT WaitKind = "round-trip"
	// WaitRetransmit: the retransmission timer.
	WaitRetransmit WaitKind = "retransmit-timer"
	// WaitUnknown: time that no evidence explains.
	WaitUnknown WaitKind = "unknown"
)

// Wait is a part of a stall with one cause.
type Wait struct {
	Kind WaitKind `json:"kind"`
	Ms   Ms       `json:"ms"`
	// Evidence are ids of events in the timeline; the last ended the wait.
	Evidence []string `json:"evidence"`
}

// Stall is a time in which a connection had data to send and sent nothing.
type Stall struct {
	// Request is Request.Name, Connection that of its connection.
	Request    string `json:"request"`
	Connection string `json:"connection"`
	// Duration is from the write to the first packet on the wire.
	Duration Ms     `json:"duration_ms"`
	Waits    []Wait `json:"waits"`
	// Predicted is when the timer was to fire, the median of what its samples say.
	Predicted Ms `json:"predicted_ms,omitempty"`
	// Samples counts socket samples that show the stall.
	Samples int `json:"samples"`
}

// Figures tell how good the evidence is, and what it cost.
type Figures struct {
	// Samples counts all socket samples, kept or not.
	Samples int `json:"samples"`
	// MaxGap is the longest time between two samples of one watched socket.
	MaxGap Ms `json:"max_gap_ms"`
	// Packets counts packets seen, loopback copies left out; NotIPv4 those of
	// them that are not decoded, ARP and IPv6 for example.
	Packets int `json:"packets"`
	NotIPv4 int `json:"not_ipv4"`
	// Alignment bounds the error of packet times against all other times.
	Alignment Ms `json:"alignment_ms"`
	// Sampling and Draining are the time that went into samples and into
	// emptying the rings: at least the processor time that they took.
	Sampling Ms `json:"sampling_ms"`
	Draining Ms `json:"draining_ms"`
	// Steal is how long a hypervisor kept one processor for something else, the
	// one that lost most, in steps of 10 ms; absent where none was.
	Steal Ms `json:"steal_ms,omitempty"`
}

// Exception is a PMTU exception: what a node has learned about a destination.
type Exception struct {
	Node        string     `json:"node"`
	Destination netip.Addr `json:"destination"`
	Gateway     netip.Addr `json:"gateway,omitzero"`
	Device      string     `json:"device,omitempty"`
	MTU         int        `json:"mtu"`
	// ExpiresS is the time left in seconds.
	ExpiresS int `json:"expires_s"`
	// Text is the exception in the words of ip route get.
	Text string `json:"text,omitempty"`
}

// Lifetime is how long a node's PMTU exceptions live: the mtu_expires sysctls
// of net.ipv4.route and net.ipv6.route, in seconds; -1 where there is none.
type Lifetime struct {
	Node  string `json:"node"`
	IPv4S int    `json:"ipv4_s"`
	IPv6S int    `json:"ipv6_s"`
	// Global tells that the IPv4 value is the whole machine's, as it was
	// before Linux 6.1.
	Global bool `json:"global,omitempty"`
}

// Mitigation is a change that was made to the network under test.
type Mitigation struct {
	Name string `json:"name"`
	// Command is what an administrator would type.
	Command string `json:"command"`
	// At is when it was made.
	At Ms `json:"at_ms"`
	// Live tells that connections were open.
	Live bool `json:"live"`
	// Note explains what to know about the outcome.
	Note string `json:"note,omitempty"`
}

// Expectation is one thing that the scenario claims, and what was measured.
type Expectation struct {
	Name   string `json:"name"`
	Limit  string `json:"limit"`
	Actual string `json:"actual"`
	OK     bool   `json:"ok"`
}

// ClockLoss is the source of a Loss of trust in the clock.
const ClockLoss = "clock"

// Loss is evidence that is known to be missing, or not to be trusted.
type Loss struct {
	// Source is what it is missing from: packets, sockets, functions, traffic;
	// or clock.
	Source string `json:"source"`
	Node   string `json:"node,omitempty"`
	Count  int    `json:"count"`
	Detail string `json:"detail,omitempty"`
	// From and To are the time that it is missing from; To is 0 where that is
	// not known, and may be any time.
	From Ms `json:"from_ms,omitzero"`
	To   Ms `json:"to_ms,omitzero"`
}

// Matters tells whether l may be of the time of a request. One that is not is
// told, but leaves the verdict alone.
func (r Result) Matters(l Loss) bool {
	return l.To == 0 || slices.ContainsFunc(r.Requests, func(q Request) bool {
		return l.To >= q.Wrote && (q.Ended == 0 || l.From <= q.Ended)
	})
}

// String is l as a reason why a result is inconclusive.
func (l Loss) String() string {
	switch {
	case l.Source == ClockLoss:
		return "the clock is not fit: " + l.Detail
	case l.Node == "":
		return fmt.Sprintf("evidence lost: %s: %d, %s", l.Source, l.Count, l.Detail)
	default:
		return fmt.Sprintf("evidence lost: %s of %s: %d, %s", l.Source, l.Node, l.Count, l.Detail)
	}
}
