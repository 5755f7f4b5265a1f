// Validation of a whole Spec: this file has the order of the checks and what
// they share, check_*.go have the checks themselves.

package topology

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Validate checks s as a whole: names, ranges, and whether the parts fit
// together, such as a real server that does not hold the VIP. Defaults count as
// written. It returns nil or Problems, all of them, with paths but without
// positions; Document.Check adds those.
func (s Spec) Validate() error { return s.validate(nil).Err() }

// validate checks s, of which the decoder could not read what unread says. Then
// nothing is called missing, since it may be what was lost.
func (s Spec) validate(unread Problems) Problems {
	v := newValidator(s.WithDefaults())
	v.partial = len(unread) > 0
	v.lostNodes = slices.ContainsFunc(unread, func(p Problem) bool {
		steps := strings.Count(p.Path, ".")
		return steps <= 1 || steps == 2 && strings.HasPrefix(p.Path, "$.nodes[")
	})
	v.checkNames()
	v.checkLinks()
	v.checkDomains()
	v.checkInterfaceNames()
	for i := range v.spec.Nodes {
		n := &v.spec.Nodes[i]
		path := item("$.nodes", i)
		v.checkDevices(n, path)
		v.checkSysctls(n, path)
		v.checkRoutes(n, path)
		v.checkServices(n, path)
		v.checkSidecar(n, path)
	}
	return v.problems
}

// validator collects the problems of one Spec.
type validator struct {
	spec     Spec
	problems Problems
	// partial tells that some of the document could not be read, lostNodes
	// that a node or its name may be among that.
	partial, lostNodes bool
	// names are those of all nodes, in order, each once.
	names []string
	// facts are by node name; of two nodes with one name, the first's.
	facts map[string]*facts
	// owners are the nodes of all addresses, those on a wire first.
	owners map[netip.Addr]*Node
	// domains are the broadcast domains: links, then segments.
	domains []domain
}

// facts is what the checks want to know of one node.
type facts struct {
	// devices are all interfaces of the node, lo first.
	devices []device
	// holds are its addresses, on any interface.
	holds map[netip.Addr]bool
}

// device is an interface of a node.
type device struct {
	name     string
	path     string
	kind     deviceKind
	prefixes []netip.Prefix
	// domain is the index of the broadcast domain of a veth end.
	domain int
}

type deviceKind int

const (
	loopback deviceKind = iota
	tunnel
	ethernet
)

// domain is one broadcast domain.
type domain struct {
	// name is how a problem names it: segment "lan", link a–b.
	name string
	ends []domainEnd
}

type domainEnd struct {
	*End
	path string
}

func newValidator(s Spec) *validator {
	v := &validator{spec: s, facts: map[string]*facts{}, owners: map[netip.Addr]*Node{}}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		if v.facts[n.Name] != nil {
			continue
		}
		v.names = append(v.names, n.Name)
		f := &facts{holds: map[netip.Addr]bool{}}
		v.facts[n.Name] = f
		path := item("$.nodes", i)
		f.add(device{name: "lo", path: path + ".loopback", kind: loopback, prefixes: n.Loopback})
		for j, t := range n.Tunnels {
			f.add(device{name: t.Name, path: item(path+".tunnels", j), kind: tunnel, prefixes: t.Addresses})
		}
	}
	for i := range s.Links {
		ends := &s.Links[i].Ends
		path := item("$.links", i) + ".ends"
		v.addDomain(fmt.Sprintf("link %s–%s", ends[0].Node, ends[1].Node), path, ends[:])
	}
	for i := range s.Segments {
		segment := &s.Segments[i]
		v.addDomain("segment "+quote(segment.Name), item("$.segments", i)+".ports", segment.Ports)
	}
	v.ownAddresses()
	return v
}

func (v *validator) addDomain(name, path string, ends []End) {
	d := domain{name: name}
	for i := range ends {
		end := &ends[i]
		d.ends = append(d.ends, domainEnd{end, item(path, i)})
		if f := v.facts[end.Node]; f != nil {
			f.add(device{name: end.Name, path: item(path, i), kind: ethernet, prefixes: end.Addresses, domain: len(v.domains)})
		}
	}
	v.domains = append(v.domains, d)
}

// ownAddresses notes who has which address: the first node that has it on a
// wire, else the first that has it at all.
func (v *validator) ownAddresses() {
	for _, kinds := range [][]deviceKind{{ethernet}, {loopback, tunnel}} {
		for i := range v.spec.Nodes {
			n := &v.spec.Nodes[i]
			for _, d := range v.facts[n.Name].devices {
				for _, p := range d.prefixes {
					if slices.Contains(kinds, d.kind) && v.owners[p.Addr()] == nil {
						v.owners[p.Addr()] = n
					}
				}
			}
		}
	}
}

func (f *facts) add(d device) {
	f.devices = append(f.devices, d)
	for _, p := range d.prefixes {
		f.holds[p.Addr()] = true
	}
}

// holdsOn tells whether the node holds addr on a device of one of the kinds.
func (f *facts) holdsOn(addr netip.Addr, kinds ...deviceKind) bool {
	return slices.ContainsFunc(f.devices, func(d device) bool {
		return slices.Contains(kinds, d.kind) && slices.ContainsFunc(d.prefixes, func(p netip.Prefix) bool { return p.Addr() == addr })
	})
}

// deviceNames are the names of the node's interfaces, lo included.
func (f *facts) deviceNames() []string {
	names := make([]string, len(f.devices))
	for i, d := range f.devices {
		names[i] = d.name
	}
	return names
}

// wrong reports something that is written and is wrong.
func (v *validator) wrong(path, what, remedy string) {
	v.problems = append(v.problems, Problem{Path: path, What: what, Remedy: remedy})
}

// missing reports something that ought to be written somewhere and is not.
func (v *validator) missing(path, what, remedy string) {
	if !v.partial {
		v.wrong(path, what, remedy)
	}
}

// oneOf checks a word against a closed list.
func (v *validator) oneOf(path, what, word string, known ...string) {
	switch {
	case word == "":
		v.missing(path, fmt.Sprintf("%s is missing", what), Allowed(word, known...))
	case !slices.Contains(known, word):
		v.wrong(path, fmt.Sprintf("unknown %s %s", what, quote(word)), Allowed(word, known...))
	}
}

// between checks the range of a number, both bounds included.
func (v *validator) between(path, what string, n, low, high int) {
	if n < low || n > high {
		v.wrong(path, fmt.Sprintf("%s %d is out of range", what, n), fmt.Sprintf("allowed: %d–%d", low, high))
	}
}

// durationBetween checks a duration: its range and that it is a multiple of unit.
func (v *validator) durationBetween(path, what string, d, low, high, unit time.Duration) {
	switch {
	case d < low || d > high:
		v.wrong(path, fmt.Sprintf("%s %s is out of range", what, duration(d)), fmt.Sprintf("allowed: %s–%s", duration(low), duration(high)))
	case d%unit != 0:
		v.wrong(path, fmt.Sprintf("%s %v is finer than the kernel keeps it", what, d), fmt.Sprintf("write a multiple of %v", unit))
	}
}

// count is "1 port", "2 ports".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// unicast checks an IPv4 address that a host can have.
func (v *validator) unicast(path, what string, a netip.Addr) bool {
	switch {
	case !a.IsValid():
		v.missing(path, what+" is missing", "write it like 10.0.0.1")
	case !a.Is4():
		v.wrong(path, fmt.Sprintf("%s %v is not IPv4", what, a), "the laboratory's networks are IPv4")
	case a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		v.wrong(path, fmt.Sprintf("%s %v is not a unicast address", what, a), "")
	default:
		return true
	}
	return false
}

// addresses checks the addresses of one interface.
func (v *validator) addresses(path, device string, prefixes []netip.Prefix) {
	seen := map[netip.Addr]bool{}
	for i, p := range prefixes {
		at := item(path, i)
		if !p.IsValid() {
			v.missing(at, device+": an address is missing", "write it like 10.0.0.1/24")
			continue
		}
		if !v.unicast(at, device+": address", p.Addr()) {
			continue
		}
		switch first, last := p.Masked().Addr(), broadcast(p); {
		case seen[p.Addr()]:
			v.wrong(at, fmt.Sprintf("%s has the address %v twice", device, p.Addr()), "leave one out")
		case p.Bits() == 0:
			v.wrong(at, fmt.Sprintf("%s: %v makes every address on link", device, p), "write the prefix length of the subnet")
		case p.Bits() < 31 && p.Addr() == first:
			v.wrong(at, fmt.Sprintf("%s: %v is the address of the subnet itself", device, p), fmt.Sprintf("the first address of a host is %v", first.Next()))
		case p.Bits() < 31 && p.Addr() == last:
			v.wrong(at, fmt.Sprintf("%s: %v is the broadcast address of its subnet", device, p), fmt.Sprintf("the last address of a host is %v", last.Prev()))
		}
		seen[p.Addr()] = true
	}
}

// onWire tells whether p is an address that a host can have on an Ethernet.
func onWire(p netip.Prefix) bool {
	a := p.Addr()
	return p.IsValid() && a.Is4() && p.Bits() > 0 && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() &&
		(p.Bits() >= 31 || a != p.Masked().Addr() && a != broadcast(p))
}

// broadcast is the last address of an IPv4 prefix.
func broadcast(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		a[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(a)
}

// name checks the name of a node, a segment or a topology.
func (v *validator) name(path, what, name string, longest int) {
	const first, all = "abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnopqrstuvwxyz0123456789-"
	switch {
	case name == "":
		v.missing(path, what+" has no name", "write one")
	case len(name) > longest || !strings.Contains(first, name[:1]) || strings.Trim(name, all) != "":
		v.wrong(path, fmt.Sprintf("%s: %s is not a name", what, quote(name)),
			fmt.Sprintf("write lower-case letters, digits and dashes, a letter first, at most %d", longest))
	}
}

// interfaceName checks a name against what the kernel takes (dev_valid_name)
// and what the names of sysctls need.
func (v *validator) interfaceName(path, what, name string) {
	switch {
	case name == "":
		v.missing(path, what+" has no name", "write one")
	case name == fallbackTunnel:
		v.wrong(path, fmt.Sprintf("%s: the name %q is that of the kernel's own tunnel device", what, name), "choose another")
	case name == "lo" || name == "all" || name == "default" || name == "." || name == "..":
		v.wrong(path, fmt.Sprintf("%s: the name %q has a meaning of its own", what, name), "choose another")
	case len(name) > 15 || strings.Trim(name, nameCharacters+".") != "":
		v.wrong(path, fmt.Sprintf("%s: %s is not a name of an interface", what, quote(name)),
			"write at most 15 letters, digits, dashes, underscores and dots")
	}
}
