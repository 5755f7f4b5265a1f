package record

import (
	"net/netip"
	"time"
)

// Capture is what the interfaces of a run saw, byte for byte. Result has the
// same packets decoded.
type Capture struct {
	// Interfaces are those that had packets, node by node.
	Interfaces []CaptureInterface
	// Frames are in time order.
	Frames []Frame
	// SnapLength bounds the bytes kept of each frame.
	SnapLength int
	// Redacted tells that payload was cut and that there are no secrets.
	Redacted bool
	// Omitted counts frames that came and would have taken too much memory.
	Omitted int
	// Dropped counts frames that the kernel had no room for, by node. They are
	// not among those received.
	Dropped map[string]int
	// Names are what addresses are called: nodes, and "vip".
	Names map[netip.Addr]string
	// Secrets decrypt the TLS connections, in the NSS key log format.
	Secrets []byte
}

// CaptureInterface is an interface of a node.
type CaptureInterface struct {
	Node, Name string
	// Ethernet tells that frames begin with an Ethernet header, as on lo too;
	// else they begin with that of IP.
	Ethernet bool
	// Received counts frames, those that are not in the capture included.
	Received int
}

// Frame is a packet as one interface saw it. Frames on lo are recorded once,
// as they come in.
type Frame struct {
	// ID is that of the packet's event, or empty: only IPv4 is decoded.
	ID string
	// Interface is its index in Capture.
	Interface int
	// Time is the kernel's stamp, to the nanosecond, on its wall clock.
	Time time.Time
	Out  bool
	// Length is that on the wire, Data the first bytes.
	Length int
	Data   []byte
}
