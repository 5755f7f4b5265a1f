// What every drawing of a Spec shows, whatever its form: a card for each node,
// and the wires that join their interfaces.

package topology

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// card is what a drawing shows of one node.
type card struct {
	name  string
	kind  Kind
	lines []line
}

// line is one line of a card: an interface, a service, a route.
type line struct {
	label, text, right string
	// wire is the index of the wire that leaves the line, -1 for none.
	wire int
	// peer is the other end of a link.
	peer string
}

// cards are the cards of all nodes, and the names of the wires between them:
// those of links, which are empty, and then those of segments. s has its
// defaults; sysctls are not shown.
func (s Spec) cards() (cards []card, wires []string) {
	ends, vips := map[string][]line{}, s.vips()
	plug := func(end End, peer string) {
		right := fmt.Sprintf("mtu %d", end.MTU)
		if o := end.Offloads.String(); o != "" {
			right = o + ", " + right
		}
		ends[end.Node] = append(ends[end.Node], line{end.Name, listed(end.Addresses, vips), right, len(wires), peer})
	}
	for _, link := range s.Links {
		a, b := link.Ends[0], link.Ends[1]
		plug(a, b.Name+" of "+b.Node)
		plug(b, a.Name+" of "+a.Node)
		wires = append(wires, "")
	}
	for _, segment := range s.Segments {
		for _, port := range segment.Ports {
			plug(port, "")
		}
		wires = append(wires, segment.Name)
	}
	for _, n := range s.Nodes {
		cards = append(cards, card{n.Name, n.Kind, append(slices.Clip(ends[n.Name]), n.inside(vips)...)})
	}
	return cards, wires
}

// inside are the lines of a node that no wire leaves.
func (n Node) inside(vips map[netip.Addr]bool) []line {
	var lines []line
	add := func(label, text, right string) { lines = append(lines, line{label, text, right, -1, ""}) }
	if len(n.Loopback) > 0 {
		add("lo", listed(n.Loopback, vips), "")
	}
	for _, t := range n.Tunnels {
		right := string(t.Mode)
		if t.Remote.IsValid() {
			right += fmt.Sprintf(" to %v", t.Remote)
		}
		if t.MTU != 0 {
			right += fmt.Sprintf(", mtu %d", t.MTU)
		}
		add(t.Name, listed(t.Addresses, vips), right)
	}
	for _, v := range n.Services {
		service := fmt.Sprintf("%v %s, %s", netip.AddrPortFrom(v.Address, v.Port), v.Protocol, v.Scheduler)
		if v.Persistence != 0 {
			service += fmt.Sprintf(", persistent %s", duration(v.Persistence))
		}
		add("service", service, "")
		for _, r := range v.RealServers {
			add("", "→ "+r.inWords(v.Port), "")
		}
	}
	for _, r := range n.Routes {
		add("route", r.String(), "")
	}
	if c := n.Sidecar; c != nil {
		add("sidecar", fmt.Sprintf(":%d, uid %d", c.Port, c.UID), "")
	}
	return lines
}

// title is the name of the node and, where it says more, its kind.
func (c card) title() string {
	if words := c.kind.words(); words != "" && words != c.name {
		return c.name + ": " + words
	}
	return c.name
}

// words is the kind as people write it.
func (k Kind) words() string { return strings.ReplaceAll(string(k), "-", " ") }

// vips are the addresses of all virtual services.
func (s Spec) vips() map[netip.Addr]bool {
	vips := map[netip.Addr]bool{}
	for _, n := range s.Nodes {
		for _, v := range n.Services {
			vips[v.Address] = true
		}
	}
	return vips
}

// vipMark follows an address that is a VIP. Its no-break space keeps it there.
const vipMark = "\u00a0VIP"

// listed lists addresses and marks the VIPs among them.
func listed(prefixes []netip.Prefix, vips map[netip.Addr]bool) string {
	words := make([]string, len(prefixes))
	for i, p := range prefixes {
		words[i] = p.String()
		if vips[p.Addr()] {
			words[i] += vipMark
		}
	}
	return strings.Join(words, " ")
}

// inWords is a real server of a service of the given port.
func (r RealServerEntry) inWords(port uint16) string {
	words := []string{r.Address.String()}
	if r.Port != port {
		words[0] = netip.AddrPortFrom(r.Address, r.Port).String()
	}
	words = append(words, "by", string(r.Forwarding))
	if r.Forwarding == Tunneling {
		words = append(words, "(IPIP)")
	}
	if r.Weight != nil && *r.Weight != 1 {
		words = append(words, fmt.Sprintf("weight %d", *r.Weight))
	}
	return strings.Join(words, " ")
}

// String is the route in the words of ip-route(8).
func (r Route) String() string {
	words := []string{r.To.String()}
	add := func(set bool, format string, a ...any) {
		if set {
			words = append(words, fmt.Sprintf(format, a...))
		}
	}
	add(r.Via.IsValid(), "via %v", r.Via)
	add(r.Dev != "", "dev %s", r.Dev)
	add(r.Src.IsValid(), "src %v", r.Src)
	add(r.Priority != 0, "metric %d", r.Priority)
	add(r.Table != 0 && r.Table != MainTable, "table %d", r.Table)
	add(r.MTU != 0 && r.MTULock, "mtu lock %d", r.MTU)
	add(r.MTU != 0 && !r.MTULock, "mtu %d", r.MTU)
	add(r.AdvMSS != 0, "advmss %d", r.AdvMSS)
	add(r.RTOMin != 0, "rto_min %s", duration(r.RTOMin))
	add(r.RTT != 0, "rtt %s", duration(r.RTT))
	add(r.Quickack, "quickack 1")
	add(r.InitCwnd != 0, "initcwnd %d", r.InitCwnd)
	add(r.InitRwnd != 0, "initrwnd %d", r.InitRwnd)
	add(r.Window != 0, "window %d", r.Window)
	return strings.Join(words, " ")
}

// String lists the offloads that are on, in the words of ethtool -K.
func (o Offloads) String() string {
	var words []string
	for _, offload := range []struct {
		on   bool
		name string
	}{{o.TSO, "tso"}, {o.GSO, "gso"}, {o.GRO, "gro"}, {o.TxChecksum, "tx"}} {
		if offload.on {
			words = append(words, offload.name)
		}
	}
	return strings.Join(words, " ")
}
