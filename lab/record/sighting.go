package record

import (
	"net/netip"
	"time"
)

// SightingSchema names the JSON form of Sighting.
const SightingSchema = "pmtulab/sighting/v1"

// SightingKind is what was seen on a machine.
type SightingKind string

const (
	// SightingStall: a socket waits for the probe0 timer although the window
	// is open, nothing is in flight and data is unsent. The signature of a
	// PMTUStall.
	SightingStall SightingKind = "stall"
	// SightingZeroWindow: a socket waits for the probe0 timer because its peer
	// takes no more: what the timer is for.
	SightingZeroWindow SightingKind = "zero-window"
	// SightingRetransmission: a socket's retransmission timer has run out at
	// least once, and nothing has come back since.
	SightingRetransmission SightingKind = "retransmission"
	// SightingStaleRoute: a socket still makes segments for an MTU that is
	// larger than what its kernel has learned about the destination. Its next
	// long write will stall, or be sent again.
	SightingStaleRoute SightingKind = "stale-route"
	// SightingException: a PMTU exception has appeared, changed or gone.
	SightingException SightingKind = "exception"
	// SightingICMP: counters of ICMP destination unreachable have moved.
	SightingICMP SightingKind = "icmp"
)

// Sighting is one event that was seen on a machine, passively.
type Sighting struct {
	Schema string       `json:"schema"`
	Time   time.Time    `json:"time"`
	Kind   SightingKind `json:"kind"`
	// Ended tells that it is over; Duration is then how long it was seen, at
	// least.
	Ended    bool `json:"ended,omitempty"`
	Duration Ms   `json:"duration_ms,omitempty"`
	// Socket is the one that waits, or whose route is stale.
	Socket *Socket `json:"socket,omitempty"`
	// Exception is the PMTU exception that it is about.
	Exception *Exception `json:"exception,omitempty"`
	// Stale counts the connections to the exception's destination that make
	// segments for a larger MTU.
	Stale int `json:"stale,omitempty"`
	// ICMP tells how counters have moved.
	ICMP *ICMPCount `json:"icmp,omitempty"`
}

// ICMPCount is how many messages of type destination unreachable, of any code, a
// machine has made and got within a second or so.
type ICMPCount struct {
	// Received and Sent count all of them (Icmp.InDestUnreachs and
	// Icmp.OutDestUnreachs); those to itself are in both.
	Received int64 `json:"received"`
	Sent     int64 `json:"sent"`
	// Refused counts packets of its own that were too long (Ip.FragFails).
	Refused int64 `json:"refused"`
	// SelfMade is how many it can have sent to itself: the least of the three.
	SelfMade int64 `json:"self_made"`
}

// Endpoints are the addresses of the connection that a sighting is about.
func (s Sighting) Endpoints() (local, remote netip.AddrPort) {
	if s.Socket == nil {
		return local, remote
	}
	return s.Socket.Local, s.Socket.Remote
}
