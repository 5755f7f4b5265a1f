package record

import "net/netip"

// Call is a call of a kernel function, as a probe saw it. The event's moment is
// that of its beginning.
type Call struct {
	// Function is its name in the kernel's source.
	Function string `json:"function"`
	// Arguments are those that matter, in host byte order.
	Arguments []Argument `json:"arguments,omitempty"`
	// Returned is what it returned, where that is watched: a negative one is
	// an errno. It is absent for 0.
	Returned *int64 `json:"returned,omitempty"`
	// Source and Destination are the ends of the socket, its own first, or
	// those of the packet; of the quoted one where it is an ICMP that came in.
	Source      netip.AddrPort `json:"source,omitzero"`
	Destination netip.AddrPort `json:"destination,omitzero"`
	// Stack names the functions that were being executed, from the called one
	// outwards. The compiler has inlined some, which are not in it.
	Stack []string `json:"stack"`
}

// Argument is an argument of a Call by the name of its parameter.
type Argument struct {
	Name  string `json:"name"`
	Value int64  `json:"value"`
}
