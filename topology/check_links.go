// Checks of nodes' names, links and segments: what is joined to what, and what
// must be unique on one wire.

package topology

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

const (
	// Bounds of an interface's MTU in bytes: RFC 791's least, and the greatest
	// of a veth (ETH_MAX_MTU).
	minMTU, maxMTU = 68, 65535
	// maxPorts is BR_MAX_PORTS of the kernel's bridge.
	maxPorts = 1 << 10
	// maxNodes is how many namespaces a lab brings up.
	maxNodes = 1 << 12
)

func (v *validator) checkNames() {
	s := &v.spec
	v.name("$.name", "the topology", s.Name, 63)
	if len(s.Nodes) == 0 {
		v.missing("$.nodes", "the topology has no node", "write at least one")
	}
	if len(s.Nodes) > maxNodes {
		v.wrong("$.nodes", fmt.Sprintf("the topology has %d nodes", len(s.Nodes)), fmt.Sprintf("at most %d are allowed", maxNodes))
	}
	taken := map[string]string{}
	unique := func(path, what, name string) {
		v.name(path, what, name, 15)
		if first, ok := taken[name]; ok && name != "" {
			v.wrong(path, fmt.Sprintf("%s %s: a %s has this name already", what, quote(name), first), "choose another")
			return
		}
		taken[name] = what
	}
	for i, n := range s.Nodes {
		unique(item("$.nodes", i)+".name", "node", n.Name)
		if n.Kind != "" {
			v.oneOf(item("$.nodes", i)+".kind", "kind", string(n.Kind), string(Client), string(LoadBalancer), string(RealServer), string(Router))
		}
	}
	for i, segment := range s.Segments {
		unique(item("$.segments", i)+".name", "segment", segment.Name)
	}
}

func (v *validator) checkLinks() {
	for i, link := range v.spec.Links {
		if a := link.Ends[0].Node; a != "" && a == link.Ends[1].Node {
			v.wrong(item("$.links", i)+".ends", fmt.Sprintf("both ends of the link are in node %s", quote(a)), "a link joins two nodes")
		}
	}
	for i, segment := range v.spec.Segments {
		path := item("$.segments", i) + ".ports"
		switch n := len(segment.Ports); {
		case n < 2:
			v.missing(path, fmt.Sprintf("segment %s has %s", quote(segment.Name), count(n, "port")), "a segment joins at least two")
		case n > maxPorts:
			v.wrong(path, fmt.Sprintf("segment %s has %s", quote(segment.Name), count(n, "port")), fmt.Sprintf("a bridge has at most %d", maxPorts))
		}
	}
	for _, d := range v.domains {
		for _, end := range d.ends {
			v.checkEnd(d, end)
		}
	}
}

func (v *validator) checkEnd(d domain, end domainEnd) {
	switch {
	case end.Node == "":
		v.missing(end.path+".node", d.name+": an end has no node", Allowed("", v.names...))
	case v.facts[end.Node] == nil && !v.lostNodes:
		v.wrong(end.path+".node", fmt.Sprintf("%s: there is no node %s", d.name, quote(end.Node)), Allowed(end.Node, v.names...))
	}
	what := fmt.Sprintf("%s of %s", end.Name, end.Node)
	v.interfaceName(end.path+".name", "interface of "+end.Node, end.Name)
	v.between(end.path+".mtu", what+": MTU", end.MTU, minMTU, maxMTU)
	v.addresses(end.path+".addresses", what, end.Addresses)
	for i, p := range end.Addresses {
		if p.Addr().IsLoopback() {
			v.wrong(item(end.path+".addresses", i), fmt.Sprintf("%s: %v is a loopback address", what, p.Addr()), "write it under the node's loopback")
		}
	}
	mac, err := net.ParseMAC(end.MAC)
	switch {
	case err != nil || len(mac) != 6:
		v.wrong(end.path+".mac", fmt.Sprintf("%s: %s is not an Ethernet address", what, quote(end.MAC)), "write it like 02:00:00:00:00:01")
	case mac[0]&1 == 1:
		v.wrong(end.path+".mac", fmt.Sprintf("%s: %v is a multicast address", what, mac), "make the first byte even, such as 02")
	case slices.Equal(mac, make(net.HardwareAddr, 6)):
		v.wrong(end.path+".mac", fmt.Sprintf("%s: %v is no address", what, mac), "write it like 02:00:00:00:00:01")
	}
	if o := end.Offloads; (o.TSO || o.GSO) && !o.TxChecksum {
		v.wrong(end.path+".offloads", what+": tso and gso need tx-checksum, without it the kernel drops them", "add tx-checksum: true")
	}
}

// checkDomains finds what must be unique on one wire. A VIP on lo or on a
// tunnel is on no wire.
func (v *validator) checkDomains() {
	for _, d := range v.domains {
		macs := map[string]string{}
		owners := map[netip.Addr]string{}
		var subnets []subnet
		for _, end := range d.ends {
			what := fmt.Sprintf("%s of %s", end.Name, end.Node)
			if mac, err := net.ParseMAC(end.MAC); err == nil {
				if first, ok := macs[mac.String()]; ok {
					v.wrong(end.path+".mac", fmt.Sprintf("%s: %s and %s have the same Ethernet address %v", d.name, first, what, mac), "leave it out for one of them")
				} else {
					macs[mac.String()] = what
				}
			}
			for i, p := range end.Addresses {
				if !onWire(p) {
					continue // reported by checkEnd
				}
				path := item(end.path+".addresses", i)
				if first, ok := owners[p.Addr()]; ok && first != what {
					v.wrong(path, fmt.Sprintf("%s: %s and %s have the same address %v", d.name, first, what, p.Addr()),
						"to hold a VIP without answering for it on the wire, write it under loopback or a tunnel")
					continue
				}
				owners[p.Addr()] = what
				if !p.IsSingleIP() {
					subnets = append(subnets, subnet{p, path, what})
				}
			}
		}
		v.checkOverlap(d, subnets)
	}
}

// subnet is an address with its prefix length on one wire.
type subnet struct {
	netip.Prefix
	path, owner string
}

// checkOverlap reports subnets of one wire that lie within a wider one: whoever
// has the narrower takes some of the wider's neighbours for remote. A single
// address, such as a VIP, is no subnet.
func (v *validator) checkOverlap(d domain, subnets []subnet) {
	slices.SortStableFunc(subnets, func(a, b subnet) int {
		return cmp.Or(a.Masked().Addr().Compare(b.Masked().Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	// Prefixes nest or are apart, so the widest so far is all to compare with.
	var wide subnet
	for _, s := range subnets {
		switch {
		case !wide.IsValid() || !wide.Overlaps(s.Prefix):
			wide = s
		case wide.Bits() != s.Bits():
			v.wrong(s.path, fmt.Sprintf("%s: %v of %s lies within %v of %s", d.name, s.Prefix, s.owner, wide.Prefix, wide.owner),
				"give both the same prefix length, or subnets apart")
		}
	}
}
