// Checks of virtual services: whether the load balancer and its real servers
// are set up for the forwarding method.

package topology

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Schedulers are the names that VirtualService.Scheduler may have, those of the
// kernel (net/netfilter/ipvs/ip_vs_*.c).
func Schedulers() []string {
	return []string{"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos"}
}

func (v *validator) checkServices(n *Node, path string) {
	seen := map[string]bool{}
	for i, s := range n.Services {
		at := item(path+".services", i)
		what := fmt.Sprintf("service %s of %s", netip.AddrPortFrom(s.Address, s.Port), n.Name)
		if !s.Address.IsValid() {
			what = "a service of " + n.Name
		}
		if v.unicast(at+".address", what+": address", s.Address) && !v.facts[n.Name].holds[s.Address] {
			v.missing(at+".address", fmt.Sprintf("%s: the node does not hold the VIP %v", what, s.Address), fmt.Sprintf("add %v/32 to its loopback or to an interface", s.Address))
		}
		if s.Port == 0 {
			v.missing(at+".port", what+" has no port", "allowed: 1–65535")
		}
		v.oneOf(at+".protocol", "protocol", s.Protocol, "tcp", "udp")
		v.oneOf(at+".scheduler", "scheduler", s.Scheduler, Schedulers()...)
		v.durationBetween(at+".persistence", what+": persistence", s.Persistence, 0, 31*24*time.Hour, time.Second)
		if len(s.RealServers) == 0 {
			v.missing(at+".real-servers", what+" has no real server", "write at least one")
		}
		key := fmt.Sprint(s.Address, s.Port, s.Protocol)
		if seen[key] {
			v.wrong(at, what+" is there twice", "put the real servers of both into one")
		}
		seen[key] = true
		v.checkRealServers(n, s, at+".real-servers", what)
	}
}

func (v *validator) checkRealServers(n *Node, s VirtualService, path, what string) {
	seen := map[netip.AddrPort]bool{}
	for i, r := range s.RealServers {
		at := item(path, i)
		entry := fmt.Sprintf("%s: real server %v", what, r.Address)
		v.oneOf(at+".forwarding", "forwarding method", string(r.Forwarding), string(Tunneling), string(DirectRoute), string(Masquerade))
		// Weights are atomic_t in the kernel; 65535 is the bound of ipvsadm(8).
		v.between(at+".weight", entry+": weight", *r.Weight, 0, 65535)
		if r.Port != s.Port && (r.Forwarding == Tunneling || r.Forwarding == DirectRoute) {
			v.wrong(at+".port", fmt.Sprintf("%s: port %d cannot differ from the service's with %s forwarding", entry, r.Port, r.Forwarding),
				fmt.Sprintf("leave it out, or use %s", Masquerade))
		}
		if !v.unicast(at+".address", what+": address of a real server", r.Address) {
			continue
		}
		if key := netip.AddrPortFrom(r.Address, r.Port); seen[key] {
			v.wrong(at, fmt.Sprintf("%s is there twice", entry), "use weight to give it more connections")
		} else {
			seen[key] = true
		}
		v.checkRealServer(n, s, r, at, entry)
	}
}

// checkRealServer checks the node of a real server.
func (v *validator) checkRealServer(n *Node, s VirtualService, r RealServerEntry, path, entry string) {
	if v.facts[n.Name].holds[r.Address] {
		return // the load balancer itself: IPVS delivers locally (LOCALNODE)
	}
	real := v.owners[r.Address]
	if real == nil {
		v.missing(path+".address", entry+": no node has this address", "give it to a node, or correct it")
		return
	}
	if r.Forwarding != Tunneling && r.Forwarding != DirectRoute {
		return
	}
	if s.Address.IsValid() && !v.facts[real.Name].holdsOn(s.Address, loopback, tunnel) {
		v.missing(path+".address", fmt.Sprintf("%s: node %s does not hold the VIP %v", entry, real.Name, s.Address),
			fmt.Sprintf("add %v/32 to its tunnel or loopback", s.Address))
	}
	switch r.Forwarding {
	case Tunneling:
		accepts := func(t Tunnel) bool {
			return t.Mode == IPIP && (!t.Local.IsValid() || t.Local == r.Address) &&
				(!t.Remote.IsValid() || v.facts[n.Name].holds[t.Remote])
		}
		if !slices.ContainsFunc(real.Tunnels, accepts) {
			v.missing(path+".forwarding", fmt.Sprintf("%s: node %s has no ipip tunnel that takes packets from %s", entry, real.Name, n.Name),
				"add {name: ipip0, mode: ipip} to its tunnels")
		}
	case DirectRoute:
		if !v.neighbours(n.Name, real.Name, r.Address) {
			v.missing(path+".forwarding", fmt.Sprintf("%s is on no link or segment of %s, which direct-route forwarding needs", entry, n.Name),
				fmt.Sprintf("use %s, or join both to one segment", Tunneling))
		}
	}
}

// neighbours tells whether node a shares a broadcast domain with the interface
// of node b that has addr.
func (v *validator) neighbours(a, b string, addr netip.Addr) bool {
	for _, far := range v.facts[b].devices {
		if far.kind != ethernet || !slices.ContainsFunc(far.prefixes, func(p netip.Prefix) bool { return p.Addr() == addr }) {
			continue
		}
		if slices.ContainsFunc(v.facts[a].devices, func(d device) bool { return d.kind == ethernet && d.domain == far.domain }) {
			return true
		}
	}
	return false
}
