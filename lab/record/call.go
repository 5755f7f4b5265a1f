package record

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
)

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

// Probes tells which kernel functions were watched.
type Probes struct {
	// Unavailable says why none was; the rest is then absent.
	Unavailable string `json:"unavailable,omitempty"`
	// Functions are those that were, by their names in the kernel's source.
	Functions []string `json:"functions,omitempty"`
	// Instead has the functions that this kernel does not let be probed, since
	// they are inlined or not in it, and for each the watched one that tells
	// of it; empty where none does.
	Instead map[string]string `json:"instead,omitempty"`
	// Records counts what the probes told; the timeline has what tells
	// something.
	Records int `json:"records"`
	// Attach is how long it took to put the probes in place.
	Attach Ms `json:"attach_ms"`
}

// Text is c in one line: the function, its arguments, what it returned and who
// called it.
func (c Call) Text() string {
	var arguments []string
	for _, a := range c.Arguments {
		arguments = append(arguments, fmt.Sprintf("%s %d", a.Name, a.Value))
	}
	text := fmt.Sprintf("%s(%s)", c.Function, strings.Join(arguments, ", "))
	if c.Returned != nil {
		text += fmt.Sprintf(" = %d", *c.Returned)
		if *c.Returned == -int64(syscall.EMSGSIZE) {
			text += " EMSGSIZE"
		}
	}
	if len(c.Stack) > 1 {
		text += " ← " + c.Stack[1]
	}
	return text
}
