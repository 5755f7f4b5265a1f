// What the decoder cannot check of a Scenario: names that must refer to
// something, and steps and expectations that make sense.

package scenario

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/traffic"
	"github.com/pmtulab/pmtulab/topology"
)

// Validate checks s as a whole, its topology included. It returns nil or
// topology.Problems, all of them, with paths but without positions.
func (s Scenario) Validate() error {
	problems := s.validate()
	if err := s.Topology.Validate(); err != nil {
		problems = append(within("$.topology", err), problems...)
	}
	return problems.Err() //nolint:wrapcheck // Problems speak for themselves
}

// validate is Validate without the topology.
func (s Scenario) validate() topology.Problems {
	v := &validator{}
	for _, n := range s.Topology.Nodes {
		v.nodes = append(v.nodes, n.Name)
	}
	for _, m := range s.Mitigations {
		v.mitigations = append(v.mitigations, m.Name)
	}
	if s.Base != "" {
		v.refer("$.base", "built-in scenario", s.Base, Names())
	}
	if s.MTUExpires < 0 || s.MTUExpires%time.Second != 0 {
		v.problem("$.mtu-expires", "write whole seconds, such as 4s", "exceptions cannot live for %v", s.MTUExpires)
	}
	v.checkName("$.name", "scenario", s.Name, nil)
	v.checkSettings(s.Settings)
	v.checkServers(s.Servers)
	v.checkConnections(s.Connections)
	v.checkSteps(s.Steps)
	v.checkExpect("$.expect", s.Expect)
	v.checkMitigations(s)
	return v.problems
}

// validator collects the problems of one Scenario, and the names that its parts
// may refer to.
type validator struct {
	nodes, connections, requests, mitigations []string

	problems topology.Problems
}

func (v *validator) problem(path, remedy, format string, args ...any) {
	v.problems = append(v.problems, topology.Problem{Path: path, What: fmt.Sprintf(format, args...), Remedy: remedy})
}

// refer checks that name is one of known.
func (v *validator) refer(path, kind, name string, known []string) {
	switch {
	case name == "":
		v.problem(path, topology.Allowed("", known...), "no %s is named", kind)
	case !slices.Contains(known, name):
		v.problem(path, topology.Allowed(name, known...), "there is no %s %q", kind, name)
	}
}

var wellNamed = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$`)

// checkName checks the name of something new, and returns known with it.
func (v *validator) checkName(path, kind, name string, known []string) []string {
	switch {
	case name == "":
		v.problem(path, "write one", "the %s has no name", kind)
	case !wellNamed.MatchString(name):
		v.problem(path, "use 1–32 letters, digits, dashes and underscores", "%q is not a name for a %s", name, kind)
	case slices.Contains(known, name):
		v.problem(path, "choose another", "there are two %ss with the name %q", kind, name)
	}
	if name == "" || slices.Contains(known, name) {
		return known
	}
	return append(known, name)
}

var settingName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

func (v *validator) checkSettings(settings []Setting) {
	var names []string
	for i, s := range settings {
		path := fmt.Sprintf("$.settings[%d]", i)
		switch {
		case !settingName.MatchString(s.Name):
			v.problem(path+".name", "use lower case letters, digits and dashes", "%q is not a name for a setting", s.Name)
		case slices.Contains(names, s.Name):
			v.problem(path+".name", "choose another", "there are two settings with the name %q", s.Name)
		}
		names = append(names, s.Name)
		if s.Min > s.Default || s.Default > s.Max {
			v.problem(path+".default", "write min ≤ default ≤ max", "the default %d of setting %s is not from %d to %d", s.Default, s.Name, s.Min, s.Max)
		}
	}
}

func (v *validator) checkServers(servers []Server) {
	for i, server := range servers {
		path := fmt.Sprintf("$.servers[%d]", i)
		v.refer(path+".node", "node", server.Node, v.nodes)
		if !server.Address.IsValid() || !server.Address.Addr().Is4() || server.Address.Port() == 0 {
			v.problem(path+".address", "write an IPv4 address with port, such as \"10.0.0.2:443\"", "the server has no address to listen on")
		}
	}
}

func (v *validator) checkConnections(connections []Connection) {
	for i, c := range connections {
		path := fmt.Sprintf("$.connections[%d]", i)
		v.connections = v.checkName(path+".name", "connection", c.Name, v.connections)
		v.refer(path+".from", "node", c.From, v.nodes)
		if !c.To.IsValid() || !c.To.Addr().Is4() || c.To.Port() == 0 {
			v.problem(path+".to", "write an IPv4 address with port, such as \"10.0.0.2:443\"", "connection %s has nowhere to go", c.Name)
		}
	}
}

func (v *validator) checkSteps(steps []Step) {
	if len(steps) == 0 {
		v.problem("$.steps", "add a list of steps: open, quiet, request", "the scenario has no steps")
	}
	var opened []string
	// open tells whether a step that uses a connection comes after one that
	// opens it.
	open := func(path, name string) {
		v.refer(path, "connection", name, v.connections)
		if slices.Contains(v.connections, name) && !slices.Contains(opened, name) {
			v.problem(path, "open it in an earlier step", "connection %q is not open", name)
		}
	}
	for i, step := range steps {
		path := fmt.Sprintf("$.steps[%d]", i)
		if n := step.actions(); n != 1 {
			v.problem(path, "write one of open, quiet, request, mitigate, expire, idle", "the step has %d actions", n)
		}
		if step.Open != "" {
			v.refer(path+".open", "connection", step.Open, v.connections)
			if slices.Contains(opened, step.Open) {
				v.problem(path+".open", "open each connection once", "connection %q is open already", step.Open)
			}
			opened = append(opened, step.Open)
		}
		for j, name := range step.Quiet {
			open(fmt.Sprintf("%s.quiet[%d]", path, j), name)
		}
		if step.Mitigate != "" {
			v.refer(path+".mitigate", "mitigation", step.Mitigate, v.mitigations)
		}
		if step.Idle < 0 || step.Idle > maxIdle {
			v.problem(path+".idle", fmt.Sprintf("write a duration of at most %v", maxIdle), "nothing can be idle for %v", step.Idle)
		}
		if x := step.Expire; x != nil {
			v.refer(path+".expire.node", "node", x.Node, v.nodes)
			if !x.Exception.Is4() {
				v.problem(path+".expire", "write node and exception, an IPv4 address", "the step names no exception")
			}
		}
		if q := step.Request; q != nil {
			open(path+".request.connection", q.Connection)
			v.checkRequest(path+".request", *q)
		}
	}
}

func (v *validator) checkRequest(path string, q RequestStep) {
	v.requests = v.checkName(path+".name", "request", q.name(), v.requests)
	switch {
	case (q.Bytes != 0) == (q.Segments != 0):
		v.problem(path, "give one of bytes and segments", "the size of the request is not clear")
	case q.Bytes != 0 && (q.Bytes < traffic.MinRequest || q.Bytes > traffic.MaxRequest):
		v.problem(path+".bytes", fmt.Sprintf("write %d–%d: one TLS record", traffic.MinRequest, traffic.MaxRequest), "a request of %d bytes cannot be made", q.Bytes)
	case q.Timeout < 0:
		v.problem(path+".timeout", "leave it out, or write a duration such as 3s", "a request cannot time out after %v", q.Timeout)
	case q.Segments < 0 || q.Segments > maxSegments:
		v.problem(path+".segments", fmt.Sprintf("write 1–%d", maxSegments), "a request of %d segments cannot be made", q.Segments)
	}
}

// maxIdle is below what a run in a guest may take.
const maxIdle = time.Minute

// maxSegments fit the initial congestion window (RFC 6928), so that no segment
// of a request waits for an ACK.
const maxSegments = 10

func (v *validator) checkExpect(at string, expect []Expect) {
	for i, e := range expect {
		v.checkExpectation(fmt.Sprintf("%s[%d]", at, i), e)
	}
}

func (v *validator) checkExpectation(path string, e Expect) {
	if e.Request != "" {
		v.refer(path+".request", "request", e.Request, v.requests)
	}
	if e.Connection != "" {
		v.refer(path+".connection", "connection", e.Connection, v.connections)
	}
	if e.Node != "" {
		v.refer(path+".node", "node", e.Node, v.nodes)
	}
	classes := record.Classes()
	if e.Class != "" && !slices.Contains(classes, e.Class) {
		v.problem(path+".class", topology.Allowed(string(e.Class), words(classes)...), "there is no class %q", e.Class)
	}
	legs := []record.LegName{record.AppLeg, record.UpstreamLeg}
	if e.Leg != "" && !slices.Contains(legs, e.Leg) {
		v.problem(path+".leg", topology.Allowed(string(e.Leg), words(legs)...), "there is no leg %q", e.Leg)
	}
	switch {
	case e.Counter != "":
		if e.Node == "" || e.Equals == nil {
			v.problem(path, "write node, counter and equals", "the expectation about counter %s is incomplete", e.Counter)
		}
	case e.Exception.IsValid():
		if e.Node == "" || e.MTU == 0 {
			v.problem(path, "write node, exception and mtu", "the expectation about the exception for %s is incomplete", e.Exception)
		}
	case e.Request != "":
		if e.Class == "" && e.SendMSS <= 0 && e.LatencyBelow <= 0 && e.Samples <= 0 && e.PredictedWithin <= 0 {
			v.problem(path, "add one of class, send-mss, latency-below, samples, predicted-within, counter", "nothing is expected of request %s", e.Request)
		}
	case e.Connection != "":
		if e.Leg == "" || e.MSSOut == 0 && e.MSSIn == 0 {
			v.problem(path, "write connection, leg, and mss-out or mss-in", "the expectation about connection %s is incomplete", e.Connection)
		}
	default:
		v.problem(path, "name a request, connection, counter or exception", "the expectation is about nothing")
	}
}

func (v *validator) checkMitigations(s Scenario) {
	var names []string
	valid := s.Topology.Validate() == nil
	for i, m := range s.Mitigations {
		path := fmt.Sprintf("$.mitigations[%d]", i)
		names = v.checkName(path+".name", "mitigation", m.Name, names)
		if len(m.Routes)+len(m.Devices) == 0 {
			v.problem(path, "add routes or devices", "mitigation %s changes nothing", m.Name)
		}
		v.checkExpect(path+".expect", m.Expect)
		v.checkExpect(path+".live", m.Live)
		before := len(v.problems)
		for j, r := range m.Routes {
			v.refer(fmt.Sprintf("%s.routes[%d].node", path, j), "node", r.Node, v.nodes)
		}
		for j, d := range m.Devices {
			v.checkDevice(fmt.Sprintf("%s.devices[%d]", path, j), d, s.Topology)
		}
		// With it the network must still be a valid one. What is wrong
		// without it is told elsewhere.
		if valid && len(v.problems) == before {
			if err := m.routed(s.Topology).Validate(); err != nil {
				v.problem(path, "", "mitigation %s makes the network invalid: %s", m.Name, strings.ReplaceAll(err.Error(), "\n", "; "))
			}
		}
	}
}

// routed is t with the routes of m.
func (m Mitigation) routed(t topology.Spec) topology.Spec {
	t.Nodes = slices.Clone(t.Nodes)
	for _, r := range m.Routes {
		for i := range t.Nodes {
			if n := &t.Nodes[i]; n.Name == r.Node {
				same := func(old topology.Route) bool {
					return old.To == r.Route.To && old.Table == r.Route.Table && old.Priority == r.Route.Priority
				}
				n.Routes = append(slices.DeleteFunc(slices.Clone(n.Routes), same), r.Route)
			}
		}
	}
	return t
}

func (v *validator) checkDevice(path string, d NodeDevice, t topology.Spec) {
	v.refer(path+".node", "node", d.Node, v.nodes)
	// The smallest of IPv4 (RFC 791), and the largest of any device.
	if d.MTU < 68 || d.MTU > 65535 {
		v.problem(path+".mtu", "allowed: 68–65535", "MTU %d is out of range", d.MTU)
	}
	var names []string
	t = t.WithDefaults()
	for _, link := range t.Links {
		for _, end := range link.Ends {
			if end.Node == d.Node {
				names = append(names, end.Name)
			}
		}
	}
	for _, segment := range t.Segments {
		for _, end := range segment.Ports {
			if end.Node == d.Node {
				names = append(names, end.Name)
			}
		}
	}
	if slices.Contains(v.nodes, d.Node) {
		v.refer(path+".name", "device", d.Name, names)
	}
}

// within moves problems of a part to its path in the whole.
func within(prefix string, err error) topology.Problems {
	problems, _ := errors.AsType[topology.Problems](err)
	problems = slices.Clone(problems)
	for i := range problems {
		problems[i].Path = prefix + strings.TrimPrefix(problems[i].Path, "$")
	}
	return problems
}

func words[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, w := range list {
		out[i] = string(w)
	}
	return out
}
