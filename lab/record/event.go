package record

import (
	"math"
	"net/netip"
	"time"
)

// Ms is a time in milliseconds with microseconds behind the point. As a moment
// it counts from Result.Started on CLOCK_MONOTONIC of the kernel under test.
type Ms float64

// Millis converts d, rounded to the microsecond.
func Millis(d time.Duration) Ms { return Ms(math.Round(float64(d)/1e3) / 1e3) }

// Duration converts m back.
func (m Ms) Duration() time.Duration {
	return time.Duration(math.Round(float64(m)*1e3)) * time.Microsecond
}

// Event is one thing that happened in one node. Exactly one of the pointers is
// set, except for steps, which have only Text.
type Event struct {
	// ID is the letter of the source and a number: P12 packet, S7 socket,
	// K3 call of a kernel function, R2 route, C4 counter, T1 step of the
	// scenario. Unique within a Result.
	ID string `json:"id"`
	// At is the moment of the event.
	At Ms `json:"at_ms"`
	// Node is the node's name in the topology; empty for steps.
	Node string `json:"node,omitempty"`
	// Interface is the device a packet was seen on.
	Interface string `json:"interface,omitempty"`
	// Connection is the scenario's name of the connection, when known.
	Connection string `json:"connection,omitempty"`
	// Leg tells the two TCP connections of one request path apart.
	Leg LegName `json:"leg,omitempty"`

	Packet *Packet `json:"packet,omitempty"`
	Socket *Socket `json:"socket,omitempty"`
	Route  *Route  `json:"route,omitempty"`
	Call   *Call   `json:"call,omitempty"`
	// Text is one line for people; derived from the rest, except for steps.
	Text string `json:"text,omitempty"`
}

// Route is a change of what a node has learned about the path to a destination,
// seen at most 25 ms after it came about.
type Route struct {
	// Change is learned, changed or gone; an exception that has expired is gone.
	Change RouteChange `json:"change"`
	// Exception is as it is, or as it was before it went.
	Exception Exception `json:"exception"`
}

// RouteChange is what became of a PMTU exception.
type RouteChange string

// Changes of a Route.
const (
	RouteLearned RouteChange = "learned"
	RouteChanged RouteChange = "changed"
	RouteGone    RouteChange = "gone"
)

// LegName tells the two TCP connections of one request path apart.
type LegName string

const (
	// AppLeg is the application's connection; with a sidecar it ends there.
	AppLeg LegName = "app"
	// UpstreamLeg is the connection from the sidecar to the virtual service;
	// without a sidecar the app leg is on the wire itself and this is unused.
	UpstreamLeg LegName = "upstream"
)

// Packet is an IPv4 packet as one interface saw it, without link header.
type Packet struct {
	// Out is true for a packet that left the node by this interface. Packets
	// on lo are recorded once, as they come in.
	Out         bool       `json:"out"`
	Source      netip.Addr `json:"source"`
	Destination netip.Addr `json:"destination"`
	// Length is the IP total length in bytes. With segmentation offload it
	// is that of the aggregate.
	Length int `json:"length"`
	// DF and Fragment tell of the fragmentation fields: don't-fragment set;
	// offset not zero or more-fragments set.
	DF       bool `json:"df"`
	Fragment bool `json:"fragment,omitempty"`
	// Protocol is the IP protocol number: 1 ICMP, 4 IPIP, 6 TCP, 17 UDP.
	Protocol uint8 `json:"protocol"`
	TCP      *TCP  `json:"tcp,omitempty"`
	ICMP     *ICMP `json:"icmp,omitempty"`
	// Inner is the packet within an IPIP packet (protocol 4).
	Inner *Packet `json:"inner,omitempty"`
}

// TCP is the TCP header of a Packet.
type TCP struct {
	SourcePort      uint16 `json:"source_port"`
	DestinationPort uint16 `json:"destination_port"`
	Seq             uint32 `json:"seq"`
	Ack             uint32 `json:"ack"`
	// Flags in tcpdump's letters: S F R P . (ack) U E W.
	Flags   string `json:"flags"`
	Window  uint16 `json:"window"`
	Payload int    `json:"payload"`
	// MSS is the MSS option of a SYN in bytes, 0 when absent (RFC 9293 §3.7.1).
	MSS uint16 `json:"mss,omitempty"`
	// Timestamps tells whether the timestamps option is present (RFC 7323).
	Timestamps bool `json:"timestamps,omitempty"`
}

// ICMP is the ICMP header of a Packet.
type ICMP struct {
	Type uint8 `json:"type"`
	Code uint8 `json:"code"`
	// MTU is the next-hop MTU of type 3 code 4 (RFC 1191 §4).
	MTU int `json:"mtu,omitempty"`
	// Quoted is the packet that the ICMP complains about, as far as quoted:
	// its Payload is derived from the quoted total length.
	Quoted *Packet `json:"quoted,omitempty"`
}

// FragNeeded tells whether p is an ICMP destination unreachable, fragmentation
// needed (type 3, code 4).
func (p *Packet) FragNeeded() bool {
	return p != nil && p.ICMP != nil && p.ICMP.Type == 3 && p.ICMP.Code == 4
}

// Endpoints returns source and destination with the TCP ports, when p is TCP.
func (p *Packet) Endpoints() (src, dst netip.AddrPort, ok bool) {
	if p == nil || p.TCP == nil {
		return src, dst, false
	}
	return netip.AddrPortFrom(p.Source, p.TCP.SourcePort),
		netip.AddrPortFrom(p.Destination, p.TCP.DestinationPort), true
}

// SelfAddressed tells whether source and destination are the same address: an
// ICMP that the kernel sent to itself.
func (p *Packet) SelfAddressed() bool { return p != nil && p.Source == p.Destination }

// Socket is one passive sample of a TCP socket through inet_diag.
type Socket struct {
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`
	// State is the TCP state as in RFC 9293: ESTABLISHED, SYN-SENT, …
	State string `json:"state"`
	// Timer is idiag_timer of linux/inet_diag.h, see the Timer constants.
	Timer Timer `json:"timer"`
	// Expires is the time left on Timer when the sample was taken.
	Expires Ms `json:"expires_ms"`
	// Unacked counts segments in flight (tcpi_unacked).
	Unacked uint32 `json:"unacked"`
	// NotSent counts bytes written but never sent (tcpi_notsent_bytes).
	NotSent uint32 `json:"notsent"`
	// SendMSS is tcpi_snd_mss in bytes, without TCP options.
	SendMSS uint32 `json:"snd_mss"`
	// PMTU is tcpi_pmtu in bytes.
	PMTU uint32 `json:"pmtu"`
	// AdvMSS is tcpi_advmss in bytes.
	AdvMSS uint32 `json:"advmss"`
	// RTO is tcpi_rto.
	RTO Ms `json:"rto_ms"`
	// SegsOut counts segments sent, failed attempts included (tcpi_segs_out).
	SegsOut uint32 `json:"segs_out"`
	// SegsIn counts segments received (tcpi_segs_in).
	SegsIn uint32 `json:"segs_in"`
	// Retransmits counts segments retransmitted (tcpi_total_retrans).
	Retransmits uint32 `json:"retransmits"`
	// SendWindow is the window that the peer offers, in bytes (tcpi_snd_wnd,
	// since Linux 5.4).
	SendWindow uint32 `json:"snd_wnd,omitempty"`
	// Probes counts unanswered window probes (tcpi_probes).
	Probes uint8 `json:"probes"`
}

// Timer is the pending timer of a TCP socket (idiag_timer in inet_diag.h).
type Timer uint8

const (
	TimerNone       Timer = 0
	TimerRetransmit Timer = 1
	TimerKeepalive  Timer = 2
	TimerTimeWait   Timer = 3
	// TimerProbe0 is the zero-window probe timer; ss shows it as "persist".
	TimerProbe0 Timer = 4
)

// String is the timer's usual name.
func (t Timer) String() string {
	switch t {
	case TimerNone:
		return "none"
	case TimerRetransmit:
		return "retransmit"
	case TimerKeepalive:
		return "keepalive"
	case TimerTimeWait:
		return "time-wait"
	case TimerProbe0:
		return "probe0"
	default:
		return "unknown"
	}
}
