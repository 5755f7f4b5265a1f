package scenario

import (
	"net/netip"

	"github.com/pmtulab/pmtulab/lab"
	"github.com/pmtulab/pmtulab/lab/evidence"
	"github.com/pmtulab/pmtulab/lab/record"
)

// label writes the connection and leg that each packet and call belongs to into
// events, and the MSS options of the SYNs into the connection.
func label(c *record.Connection, events []record.Event) {
	for i := range events {
		e := &events[i]
		if e.Call != nil && e.Connection == "" {
			if name, leg, _ := belongs(c, e.Call.Source, e.Call.Destination, false); leg != nil {
				e.Connection, e.Leg = c.Name, name
			}
		}
		if e.Packet == nil || e.Connection != "" {
			continue
		}
		packet, quoted := innermost(e.Packet)
		near, far, ok := packet.Endpoints()
		if !ok {
			continue
		}
		name, leg, out := belongs(c, near, far, e.Interface == "lo" && !quoted)
		if leg == nil {
			continue
		}
		e.Connection, e.Leg = c.Name, name
		if mss := packet.TCP.MSS; mss > 0 && !quoted && out {
			leg.MSSOut = mss
		} else if mss > 0 && !quoted {
			leg.MSSIn = mss
		}
	}
}

// innermost looks through tunnels and, where the packet is an ICMP, at the
// packet that it quotes.
func innermost(p *record.Packet) (packet *record.Packet, quoted bool) {
	for p.Inner != nil {
		p = p.Inner
	}
	if p.ICMP != nil && p.ICMP.Quoted != nil {
		return p.ICMP.Quoted, true
	}
	return p, false
}

// belongs finds the leg of c with these endpoints; out tells that the packet
// came from the client. On lo a redirected app leg is known by its near end
// alone, since the kernel has rewritten the far one to the sidecar's.
func belongs(c *record.Connection, src, dst netip.AddrPort, loopback bool) (name record.LegName, leg *record.Leg, out bool) {
	if up := c.Upstream; up != nil {
		switch {
		case src == up.Local && dst == up.Remote:
			return record.UpstreamLeg, up, true
		case src == up.Remote && dst == up.Local:
			return record.UpstreamLeg, up, false
		}
	}
	app := &c.App
	switch {
	case src == app.Local && (loopback || dst == app.Remote):
		return record.AppLeg, app, true
	case dst == app.Local && (loopback || src == app.Remote):
		return record.AppLeg, app, false
	}
	return "", nil, false
}

// links are the interfaces as the lab read them back from the kernel.
func links(l *lab.Lab) []record.Link {
	var out []record.Link
	for _, link := range l.Links() {
		out = append(out, record.Link{Node: link.Node, Interface: link.Interface, MTU: link.MTU, Offloads: link.Offloads})
	}
	return out
}

// observed are the nodes of the scenario; bridges have nothing to tell.
func observed(l *lab.Lab) []evidence.Node {
	var out []evidence.Node
	for _, n := range l.Nodes() {
		out = append(out, n)
	}
	return out
}

func serverAddresses(s Scenario) []netip.Addr {
	var out []netip.Addr
	for _, server := range s.Servers {
		out = append(out, server.Address.Addr())
	}
	return out
}

func (s Scenario) connection(name string) Connection {
	for _, c := range s.Connections {
		if c.Name == name {
			return c
		}
	}
	return Connection{}
}
