// Checks of one node: its devices, sysctls, routes and sidecar.

package topology

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
)

// fallbackTunnel is the device from any to any that ipip may put into every
// namespace.
const fallbackTunnel = "tunl0"

func (v *validator) checkDevices(n *Node, path string) {
	type outer struct{ local, remote netip.Addr }
	ends := map[outer]string{}
	v.addresses(path+".loopback", "lo of "+n.Name, n.Loopback)
	for i, p := range n.Loopback {
		if p.IsValid() && !p.IsSingleIP() && !p.Addr().IsLoopback() {
			// fib_add_ifaddr: on a loopback device the subnet's route is local.
			v.wrong(item(path+".loopback", i), fmt.Sprintf("lo of %s: %v makes its whole subnet local to the node", n.Name, p), fmt.Sprintf("write %v/32", p.Addr()))
		}
	}
	for i, t := range n.Tunnels {
		at := item(path+".tunnels", i)
		what := fmt.Sprintf("tunnel %s of %s", t.Name, n.Name)
		// A tunnel from any to any is that device where a node comes with it.
		if t.Name != fallbackTunnel || t.Local.IsValid() || t.Remote.IsValid() {
			v.interfaceName(at+".name", "tunnel of "+n.Name, t.Name)
		}
		v.oneOf(at+".mode", "mode", string(t.Mode), string(IPIP))
		if t.MTU != 0 {
			// IP_MAX_MTU less the outer header, as in ip_tunnel_change_mtu.
			v.between(at+".mtu", what+": MTU", t.MTU, minMTU, maxMTU-20)
		}
		v.addresses(at+".addresses", what, t.Addresses)
		if t.Local.IsValid() && v.unicast(at+".local", what+": local", t.Local) && !v.facts[n.Name].holds[t.Local] {
			v.missing(at+".local", fmt.Sprintf("%s: node %s does not hold the local address %v", what, n.Name, t.Local), "write an address of the node, or leave it out for any")
		}
		if t.Remote.IsValid() {
			v.unicast(at+".remote", what+": remote", t.Remote)
		}
		key := outer{t.Local, t.Remote}
		if first, twice := ends[key]; twice {
			v.wrong(at, fmt.Sprintf("%s has the same local and remote as %s", what, first), "the kernel takes one device for a pair of outer addresses")
		}
		ends[key] = t.Name
	}
}

// checkInterfaceNames finds names that two interfaces of one node have.
func (v *validator) checkInterfaceNames() {
	for _, node := range v.names {
		seen := map[string]bool{}
		for _, d := range v.facts[node].devices {
			if seen[d.name] && d.kind != loopback && d.name != "lo" && d.name != "" {
				v.wrong(d.path+".name", fmt.Sprintf("node %s has two interfaces with the name %s", quote(node), quote(d.name)), "choose another")
			}
			seen[d.name] = true
		}
	}
}

func (v *validator) checkSysctls(n *Node, path string) {
	seen := map[string]string{}
	known := append(v.facts[n.Name].deviceNames(), "all", "default", fallbackTunnel)
	for _, key := range slices.Sorted(maps.Keys(n.Sysctls)) {
		at := child(path+".sysctls", key)
		file, err := SysctlPath(key)
		if err != nil {
			v.wrong(at, fmt.Sprintf("sysctl %s of %s: %v", quote(key), n.Name, err), "write it like net.ipv4.tcp_mtu_probing")
			continue
		}
		if first, twice := seen[file]; twice {
			v.wrong(at, fmt.Sprintf("sysctl %s of %s is written twice", key, n.Name), "the other is "+first)
		}
		seen[file] = key
		if device := SysctlInterface(file); device != "" && !slices.Contains(known, device) {
			v.missing(at, fmt.Sprintf("sysctl %s: node %s has no interface %s", key, n.Name, quote(device)), Allowed(device, known...))
		}
		if text := n.Sysctls[key]; text == "" || strings.ContainsFunc(text, controls) || len(text) > 1024 {
			v.wrong(at, fmt.Sprintf("sysctl %s of %s: %s is not a value", key, n.Name, quote(text)), "write one line")
		}
	}
}

// controls tells whether r is a control character; a tab is not, since the
// kernel separates numbers by tabs.
func controls(r rune) bool { return r != '\t' && unicode.IsControl(r) }

func (v *validator) checkRoutes(n *Node, path string) {
	type route struct {
		to              Destination
		table, priority int
	}
	seen := map[route]bool{}
	// onLink are the destinations that need no next hop, so far.
	var onLink []device
	for _, d := range v.facts[n.Name].devices {
		if d.kind != loopback {
			onLink = append(onLink, d)
		}
	}
	for i, r := range n.Routes {
		at := item(path+".routes", i)
		what := fmt.Sprintf("route to %v of %s", r.To, n.Name)
		if v.checkDestination(at, n.Name, r.To) {
			key := route{r.To, r.Table, r.Priority}
			if seen[key] {
				v.wrong(at, what+" is there twice", "give one of them another priority or table")
			}
			seen[key] = true
		}
		v.checkRouteWay(n, at, what, r, onLink)
		v.checkMetrics(at, what, r)
		if !r.Via.IsValid() && r.Dev != "" && r.To.IsValid() {
			onLink = append(onLink, device{name: r.Dev, prefixes: []netip.Prefix{r.To.Prefix}})
		}
	}
}

func (v *validator) checkDestination(path, node string, to Destination) bool {
	switch {
	case !to.IsValid():
		v.missing(path+".to", fmt.Sprintf("a route of %s has no destination", node), "write default, a prefix or an address")
	case !to.Addr().Is4():
		v.wrong(path+".to", fmt.Sprintf("route to %v of %s is not IPv4", to, node), "the laboratory's networks are IPv4")
	case to.Prefix != to.Masked():
		v.wrong(path+".to", fmt.Sprintf("route to %v of %s has bits behind its prefix length", to, node), fmt.Sprintf("write %v", to.Masked()))
	default:
		return true
	}
	return false
}

// checkRouteWay checks how a route leaves the node, as fib_check_nh does.
func (v *validator) checkRouteWay(n *Node, path, what string, r Route, onLink []device) {
	node := v.facts[n.Name]
	devices := node.deviceNames()
	if r.Dev != "" && !slices.Contains(devices, r.Dev) {
		v.missing(path+".dev", fmt.Sprintf("%s: there is no interface %s", what, quote(r.Dev)), Allowed(r.Dev, devices...))
	}
	if r.Src.IsValid() && v.unicast(path+".src", what+": source", r.Src) && !node.holds[r.Src] {
		v.missing(path+".src", fmt.Sprintf("%s: node %s does not hold the source %v", what, n.Name, r.Src), "write an address of the node")
	}
	if !r.Via.IsValid() {
		if r.Dev == "" {
			v.missing(path, what+" has neither via nor dev", "write the next hop, or the interface that the destination is on")
		}
		return
	}
	if !v.unicast(path+".via", what+": next hop", r.Via) {
		return
	}
	if node.holds[r.Via] {
		v.wrong(path+".via", fmt.Sprintf("%s: the next hop %v is the node itself", what, r.Via), "write the address of a neighbour")
		return
	}
	var by []string
	for _, d := range onLink {
		if slices.ContainsFunc(d.prefixes, func(p netip.Prefix) bool { return p.Contains(r.Via) }) {
			by = append(by, d.name)
		}
	}
	switch {
	case len(by) == 0:
		v.missing(path+".via", fmt.Sprintf("%s: the next hop %v is on no link of the node", what, r.Via), "write the address of a neighbour, or first a route to it with dev alone")
	case r.Dev != "" && slices.Contains(devices, r.Dev) && !slices.Contains(by, r.Dev):
		v.wrong(path+".dev", fmt.Sprintf("%s: the next hop %v is not on %s", what, r.Via, r.Dev), "it is on "+strings.Join(by, ", "))
	}
}

// checkMetrics checks the ranges that the kernel keeps (ip_metrics_convert
// cuts mtu and advmss down silently).
func (v *validator) checkMetrics(path, what string, r Route) {
	v.between(path+".priority", what+": priority", r.Priority, 0, math.MaxInt32)
	v.between(path+".table", what+": table", r.Table, 1, math.MaxInt32)
	if r.MTU != 0 {
		v.between(path+".mtu", what+": mtu", r.MTU, minMTU, 65520)
	} else if r.MTULock {
		v.wrong(path+".mtu-lock", what+": mtu-lock without mtu", "write mtu as well")
	}
	v.between(path+".advmss", what+": advmss", r.AdvMSS, 0, 65495)
	v.between(path+".initcwnd", what+": initcwnd", r.InitCwnd, 0, 65535)
	v.between(path+".initrwnd", what+": initrwnd", r.InitRwnd, 0, 65535)
	v.between(path+".window", what+": window", r.Window, 0, 1<<30)
	v.durationBetween(path+".rto-min", what+": rto-min", r.RTOMin, 0, 2*time.Minute, time.Millisecond)
	v.durationBetween(path+".rtt", what+": rtt", r.RTT, 0, 2*time.Minute, time.Millisecond)
}

func (v *validator) checkSidecar(n *Node, path string) {
	if n.Sidecar == nil {
		return
	}
	if !slices.ContainsFunc(v.facts[n.Name].devices, func(d device) bool { return d.kind == ethernet }) {
		v.missing(path+".sidecar", fmt.Sprintf("node %s has a sidecar but neither link nor segment", quote(n.Name)), "join it to one, or leave the sidecar out")
	}
	// Root's traffic must be redirected, so the sidecar cannot be root.
	v.between(path+".sidecar.uid", "sidecar of "+n.Name+": uid", n.Sidecar.UID, 1, math.MaxInt32)
	v.durationBetween(path+".sidecar.connect-timeout", "sidecar of "+n.Name+": connect-timeout", n.Sidecar.ConnectTimeout, time.Millisecond, time.Hour, 1)
}
