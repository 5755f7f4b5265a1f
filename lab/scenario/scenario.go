// Package scenario runs an experiment: a topology, the connections and
// requests to make in it, and what must come out. A Scenario is plain data,
// read from YAML or written in Go; Run brings it to life on the kernel that the
// process runs on and returns a record.Result.
package scenario

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/topology"
)

// Scenario is an experiment.
type Scenario struct {
	// Name is 1–32 letters, digits, dashes and underscores.
	Name string `yaml:"name"`
	// Summary is one line for lists.
	Summary string `yaml:"summary,omitempty"`
	// Base is a built-in scenario whose settings, topology and servers this
	// one shares; what is given here goes before.
	Base     string        `yaml:"base,omitempty"`
	Settings []Setting     `yaml:"settings,omitempty"`
	Topology topology.Spec `yaml:"topology,omitempty"`
	// Servers are up before the first step.
	Servers []Server `yaml:"servers,omitempty"`
	// MTUExpires is how long the PMTU exceptions of the clients live, in
	// whole seconds (net.ipv4.route.mtu_expires); 0 leaves the kernel's 10
	// minutes. Before Linux 6.1 it is the whole machine's, so it is set in a
	// guest only.
	MTUExpires  time.Duration `yaml:"mtu-expires,omitempty"`
	Connections []Connection  `yaml:"connections"`
	Steps       []Step        `yaml:"steps"`
	Expect      []Expect      `yaml:"expect,omitempty"`
	// Mitigations are changes to the network that could prevent the trouble.
	Mitigations []Mitigation `yaml:"mitigations,omitempty"`
	// Values are the settings that Parse has put in.
	Values map[string]int `yaml:"-"`
}

// Mitigation is a change to the network and what is expected with it.
type Mitigation struct {
	// Name is written like a scenario's.
	Name string `yaml:"name"`
	// Summary is one line for lists.
	Summary string `yaml:"summary,omitempty"`
	// Command is what an administrator would type.
	Command string `yaml:"command,omitempty"`
	// Note is what to know about the outcome, one or two sentences.
	Note string `yaml:"note,omitempty"`
	// Routes replace routes of nodes, or are added.
	Routes []NodeRoute `yaml:"routes,omitempty"`
	// Devices get another MTU.
	Devices []NodeDevice `yaml:"devices,omitempty"`
	// Expect replaces the scenario's expectations when the change is made
	// before any connection, Live when it is made while connections are idle.
	Expect []Expect `yaml:"expect,omitempty"`
	Live   []Expect `yaml:"live,omitempty"`
}

// NodeDevice is the MTU in bytes of one interface of a node. The other end of
// its link keeps its own.
type NodeDevice struct {
	// Node and Name are those of the node and of its interface.
	Node string `yaml:"node"`
	Name string `yaml:"name"`
	// MTU in bytes, 68–65535.
	MTU int `yaml:"mtu"`
}

// NodeRoute is a route of one node.
type NodeRoute struct {
	// Node is the name of a node.
	Node  string         `yaml:"node"`
	Route topology.Route `yaml:"route"`
}

// Setting is an integer that the user may change with --set. In the file
// "$(name)", "$(name + 20)" and "$(name - 20)" stand for it.
type Setting struct {
	// Name is 1–32 lower-case letters, digits and dashes, a letter first.
	Name string `yaml:"name"`
	// Default is the value without --set.
	Default int `yaml:"default"`
	// Min and Max bound the value, both included.
	Min int `yaml:"min"`
	Max int `yaml:"max"`
	// Help is one line with the unit.
	Help string `yaml:"help,omitempty"`
}

// Server is an HTTPS server.
type Server struct {
	// Node is the name of a node.
	Node string `yaml:"node"`
	// Address is where it listens, IPv4 with port.
	Address netip.AddrPort `yaml:"address"`
}

// Connection is an HTTPS connection that a step opens.
type Connection struct {
	// Name is written like a scenario's.
	Name string `yaml:"name"`
	// From is the name of the node that connects.
	From string `yaml:"from"`
	// To is where it connects to, IPv4 with port.
	To netip.AddrPort `yaml:"to"`
	// PostQuantum offers X25519MLKEM768, whose ClientHello takes two segments.
	PostQuantum bool `yaml:"post-quantum,omitempty"`
}

// Step is one action; exactly one field is set.
type Step struct {
	// Open makes the connection and its TLS handshake.
	Open string `yaml:"open,omitempty"`
	// Quiet waits until the wire sockets of the connections have nothing in
	// flight and send nothing more. The next request on each proves that it
	// stayed so.
	Quiet []string `yaml:"quiet,omitempty"`
	// Request sends one request and waits for the response.
	Request *RequestStep `yaml:"request,omitempty"`
	// Mitigate makes the change of a mitigation.
	Mitigate string `yaml:"mitigate,omitempty"`
	// Expire waits until a PMTU exception is older than it may get, without
	// looking its route up: a look-up would delete it.
	Expire *ExpireStep `yaml:"expire,omitempty"`
	// Idle lets time pass, for keepalive probes and the timers of others.
	Idle time.Duration `yaml:"idle,omitempty"`
}

// ExpireStep names a PMTU exception that is there when the step begins.
type ExpireStep struct {
	// Node has it, and Exception is its destination.
	Node      string     `yaml:"node"`
	Exception netip.Addr `yaml:"exception"`
}

// actions counts the fields that are set.
func (s Step) actions() int {
	n := 0
	for _, set := range []bool{s.Open != "", len(s.Quiet) > 0, s.Request != nil, s.Mitigate != "", s.Expire != nil, s.Idle != 0} {
		if set {
			n++
		}
	}
	return n
}

// RequestStep is one request. Its size is Bytes, or Segments times the send MSS
// that the wire socket has at the time.
type RequestStep struct {
	// Connection is the name of one that is open.
	Connection string `yaml:"connection"`
	// Name defaults to the connection's.
	Name string `yaml:"name,omitempty"`
	// Bytes is what one TLS record carries, 256–16406 in all. Segments is at
	// most 10, the initial window.
	Bytes    int `yaml:"bytes,omitempty"`
	Segments int `yaml:"segments,omitempty"`
	// Timeout is when the application gives up; default 20 s.
	Timeout time.Duration `yaml:"timeout,omitempty"`
}

// name is the name of the request in expectations and results.
func (r RequestStep) name() string {
	if r.Name != "" {
		return r.Name
	}
	return r.Connection
}

// Expect is one claim about the result, of one of four kinds: about a request
// (Request), a counter (Node and Counter, over the whole run or during
// Request), a connection's handshake (Connection), a PMTU exception (Exception
// and Node).
type Expect struct {
	// Request is the name of a request, and Class what must happen to it.
	Request string       `yaml:"request,omitempty"`
	Class   record.Class `yaml:"class,omitempty"`
	// SendMSS is that of the wire socket just before the write, in bytes.
	SendMSS int `yaml:"send-mss,omitempty"`
	// LatencyBelow bounds the latency of the request.
	LatencyBelow time.Duration `yaml:"latency-below,omitempty"`
	// Samples is how many socket samples must show the stall at least.
	Samples int `yaml:"samples,omitempty"`
	// PredictedWithin is how far the end of the stall may be from what the
	// sampled timer predicts, beside one tick of the kernel's timers.
	PredictedWithin time.Duration `yaml:"predicted-within,omitempty"`

	// Node is the name of a node, and Counter that of a kernel counter, such
	// as Icmp.InDestUnreachs. Equals is how much it must have grown.
	Node    string `yaml:"node,omitempty"`
	Counter string `yaml:"counter,omitempty"`
	Equals  *int64 `yaml:"equals,omitempty"`

	// Connection is the name of a connection, and Leg the part of it. MSSOut
	// and MSSIn are the MSS options of the two SYNs in bytes.
	Connection string         `yaml:"connection,omitempty"`
	Leg        record.LegName `yaml:"leg,omitempty"`
	MSSOut     uint16         `yaml:"mss-out,omitempty"`
	MSSIn      uint16         `yaml:"mss-in,omitempty"`

	// Exception is the destination of a PMTU exception, and MTU what it says
	// in bytes.
	Exception netip.Addr `yaml:"exception,omitempty"`
	MTU       int        `yaml:"mtu,omitempty"`
}

// With is s with a step that makes the change of the named mitigation, and its
// expectations: before any connection, or live, once connections were proven
// quiet.
func (s Scenario) With(mitigation string, live bool) (Scenario, error) {
	i := slices.IndexFunc(s.Mitigations, func(m Mitigation) bool { return m.Name == mitigation })
	if i < 0 {
		var names []string
		for _, m := range s.Mitigations {
			names = append(names, m.Name)
		}
		return s, fmt.Errorf("scenario %s has no mitigation %q; %s", s.Name, mitigation, topology.Allowed(mitigation, names...))
	}
	at := 0
	s.Expect = s.Mitigations[i].Expect
	if live {
		at = 1 + slices.IndexFunc(s.Steps, func(step Step) bool { return len(step.Quiet) > 0 })
		s.Expect = s.Mitigations[i].Live
		if at == 0 || s.Expect == nil {
			return s, fmt.Errorf("mitigation %s of scenario %s cannot be made live: it has no expectations for that, or the scenario no quiet step", mitigation, s.Name)
		}
	}
	s.Steps = slices.Insert(slices.Clone(s.Steps), at, Step{Mitigate: mitigation})
	return s, nil
}

// WithoutSidecars is s with every sidecar taken out of its topology, and the
// expectations about upstream legs with them: the application's connection is
// then the one on the wire.
func (s Scenario) WithoutSidecars() Scenario {
	s.Topology.Nodes = slices.Clone(s.Topology.Nodes)
	for i := range s.Topology.Nodes {
		s.Topology.Nodes[i].Sidecar = nil
	}
	s.Expect = slices.Clone(s.Expect)
	for i := range s.Expect {
		if s.Expect[i].Leg == record.UpstreamLeg {
			s.Expect[i].Leg = record.AppLeg
		}
	}
	return s
}
