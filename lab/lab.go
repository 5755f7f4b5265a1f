//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab/ipvs"
	"github.com/pmtulab/pmtulab/lab/sidecar"
	"github.com/pmtulab/pmtulab/topology"
)

// Lab is a network that is up. Its methods may be called from several
// goroutines.
type Lab struct {
	spec     topology.Spec
	home     int
	nodes    []*Node
	segments []*network
	spawner  *spawner
	links    []LinkState
	phases   []Phase
}

// LinkState is one interface of a lab as the kernel reports it.
type LinkState struct {
	// Node is the name of the node, or of the segment for a bridge's port.
	Node      string
	Interface string
	// MTU in bytes.
	MTU int
	// MAC is empty for tunnels.
	MAC string
	// Offloads holds the state of each offload that a Spec can set, by its
	// name in ethtool -k; nil for tunnels.
	Offloads map[string]bool
}

// Phase is one part of bringing a lab up and the time that it took.
type Phase struct {
	Name     string
	Duration time.Duration
}

// Up brings a network up and returns when every link carries packets and every
// service and sidecar is ready. The caller closes the Lab. When Up fails, all
// that it made is gone again; the error is a *MissingError when this machine
// cannot do it, a *SysctlError for a sysctl that this kernel does not have.
//
// Defaults of the Spec are filled in first. A Spec that is not valid is refused
// with all its topology.Problems.
func Up(ctx context.Context, spec topology.Spec) (*Lab, error) {
	spec = spec.WithDefaults()
	if err := spec.Validate(); err != nil {
		return nil, fmt.Errorf("bring up %s: %w", spec.Name, err)
	}
	l := &Lab{spec: spec, home: -1}
	if err := l.up(ctx); err != nil {
		return nil, fmt.Errorf("bring up %s: %w", spec.Name, errors.Join(err, l.Close()))
	}
	return l, nil
}

// up is the table of contents: what is made, in which order.
func (l *Lab) up(ctx context.Context) error {
	var err error
	if l.home, err = openHome(); err != nil {
		return err
	}
	l.spawner = newSpawner()
	for _, phase := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"namespaces", l.makeNamespaces},
		{"links", l.makeLinks},
		{"interfaces", l.configureInterfaces},
		{"carrier", l.awaitCarrier},
		{"tunnels and routes", l.makeTunnelsAndRoutes},
		{"services", l.addServices},
		{"sidecars", l.startSidecars},
		{"read back", l.readBack},
	} {
		if err := context.Cause(ctx); err != nil {
			return fmt.Errorf("before %s: %w", phase.name, err)
		}
		start := time.Now()
		if err := phase.run(ctx); err != nil {
			return err
		}
		l.phases = append(l.phases, Phase{phase.name, time.Since(start)})
	}
	return nil
}

func (l *Lab) makeNamespaces(context.Context) error {
	fresh := fresh{}
	for _, spec := range l.spec.Nodes {
		n, err := newNetwork(l.home, spec.Name, fresh, baseline(), spec.Sysctls)
		if err != nil {
			return err
		}
		l.nodes = append(l.nodes, &Node{network: n, spawner: l.spawner})
	}
	for _, spec := range l.spec.Segments {
		n, err := newNetwork(l.home, spec.Name, fresh, quiet(), nil)
		if err != nil {
			return err
		}
		l.segments = append(l.segments, n)
	}
	return nil
}

func (l *Lab) makeLinks(context.Context) error {
	for _, link := range l.spec.Links {
		a, err := l.nodeEnd(link.Ends[0])
		if err != nil {
			return err
		}
		b, err := l.nodeEnd(link.Ends[1])
		if err != nil {
			return err
		}
		if err := addVeth(a, b); err != nil {
			return err
		}
	}
	for i, segment := range l.spec.Segments {
		n := l.segments[i]
		if err := addBridge(n); err != nil {
			return err
		}
		for j, port := range segment.Ports {
			end, err := l.nodeEnd(port)
			if err != nil {
				return err
			}
			p := vethEnd{net: n, name: portNames(segment)[j], mtu: port.MTU, mac: portMAC(i, j), master: n.links[bridgeName]}
			if err := addVeth(p, end); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *Lab) nodeEnd(e topology.End) (vethEnd, error) {
	n := l.Node(e.Node)
	if n == nil {
		return vethEnd{}, fmt.Errorf("no node %q", e.Node)
	}
	end := vethEnd{net: n.network, name: e.Name, mtu: e.MTU}
	if e.MAC != "" {
		var err error
		if end.mac, err = net.ParseMAC(e.MAC); err != nil {
			return vethEnd{}, fmt.Errorf("read MAC of %s:%s: %w", e.Node, e.Name, err)
		}
	}
	return end, nil
}

// portMAC is the address of a bridge's port, locally administered, the same in
// every run. Those of nodes begin with 02.
func portMAC(segment, port int) net.HardwareAddr {
	return net.HardwareAddr{0x0a, 0, byte(segment >> 8), byte(segment), byte(port >> 8), byte(port)}
}

// portNames names a segment's ports after their nodes. Where a node has several
// ports, or its name cannot be had, a number follows.
func portNames(s topology.Segment) []string {
	// "all" and "default" are directories beside those of the interfaces in
	// /proc/sys/net/ipv4/conf.
	taken := map[string]bool{"lo": true, bridgeName: true, "all": true, "default": true}
	names := make([]string, len(s.Ports))
	// First ports first, so that a number never takes another node's name.
	for i, p := range s.Ports {
		if !taken[p.Node] {
			names[i] = p.Node
			taken[p.Node] = true
		}
	}
	for i, p := range s.Ports {
		for number := 2; names[i] == ""; number++ {
			suffix := fmt.Sprintf("-%d", number)
			name := p.Node[:min(len(p.Node), unix.IFNAMSIZ-1-len(suffix))] + suffix
			if !taken[name] {
				names[i] = name
				taken[name] = true
			}
		}
	}
	return names
}

// configureInterfaces sets offloads and addresses and brings the interfaces up.
func (l *Lab) configureInterfaces(context.Context) error {
	for i, spec := range l.spec.Nodes {
		n := l.nodes[i]
		if err := n.addAddresses("lo", spec.Loopback); err != nil {
			return err
		}
	}
	for i, segment := range l.spec.Segments {
		names := portNames(segment)
		for j, port := range segment.Ports {
			if err := l.configureEnd(port); err != nil {
				return err
			}
			if err := l.segments[i].setOffloads(names[j], port.Offloads); err != nil {
				return err
			}
		}
	}
	for _, link := range l.spec.Links {
		for _, end := range link.Ends {
			if err := l.configureEnd(end); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *Lab) configureEnd(e topology.End) error {
	n := l.Node(e.Node)
	if err := n.setOffloads(e.Name, e.Offloads); err != nil {
		return err
	}
	if err := n.addAddresses(e.Name, e.Addresses); err != nil {
		return err
	}
	return n.setUp(e.Name)
}

func (l *Lab) awaitCarrier(ctx context.Context) error {
	for i, segment := range l.spec.Segments {
		if err := l.segments[i].awaitCarrier(ctx, portNames(segment)); err != nil {
			return err
		}
	}
	for _, link := range l.spec.Links {
		first := link.Ends[0]
		if err := l.Node(first.Node).awaitCarrier(ctx, []string{first.Name}); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) makeTunnelsAndRoutes(context.Context) error {
	for i, spec := range l.spec.Nodes {
		n := l.nodes[i]
		for _, t := range spec.Tunnels {
			if err := addTunnel(n.network, t); err != nil {
				return err
			}
			// Off as on the veths: segments that the tunnel had merged would
			// not be those of the wire.
			if err := n.setOffloads(t.Name, topology.Offloads{}); err != nil {
				return err
			}
		}
		for _, r := range spec.Routes {
			if err := n.addRoute(r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *Lab) addServices(context.Context) error {
	for i, spec := range l.spec.Nodes {
		if len(spec.Services) == 0 {
			continue
		}
		n := l.nodes[i]
		var err error
		if n.services, err = ipvs.Open(n.Do); err != nil {
			return fmt.Errorf("node %s: %w", n.name, missingIPVS(err))
		}
		for _, s := range spec.Services {
			if err := n.services.Add(service(s)); err != nil {
				return fmt.Errorf("node %s: %w", n.name, err)
			}
		}
	}
	return nil
}

// service translates a virtual service of a Spec.
func service(spec topology.VirtualService) ipvs.Service {
	s := ipvs.Service{
		Protocol:    ipvs.TCP,
		Address:     spec.Address,
		Port:        spec.Port,
		Scheduler:   spec.Scheduler,
		Persistence: spec.Persistence,
	}
	if spec.Protocol == "udp" {
		s.Protocol = ipvs.UDP
	}
	for _, r := range spec.RealServers {
		d := ipvs.Destination{Address: r.Address, Port: r.Port, Weight: *r.Weight}
		switch r.Forwarding {
		case topology.Tunneling:
			d.Forwarding = ipvs.Tunnel
		case topology.DirectRoute:
			d.Forwarding = ipvs.DirectRoute
		case topology.Masquerade:
			d.Forwarding = ipvs.Masquerade
		}
		s.Destinations = append(s.Destinations, d)
	}
	return s
}

func (l *Lab) startSidecars(ctx context.Context) error {
	for i, spec := range l.spec.Nodes {
		if spec.Sidecar == nil {
			continue
		}
		n := l.nodes[i]
		config := sidecar.Config{
			Port: spec.Sidecar.Port, UID: spec.Sidecar.UID, ConnectTimeout: spec.Sidecar.ConnectTimeout,
		}
		var err error
		n.sidecar, err = sidecar.Start(ctx, config, sidecar.Namespace{Do: n.Do, Start: n.Start})
		if err != nil {
			return fmt.Errorf("node %s: %w", n.name, missingRedirect(err))
		}
	}
	return nil
}

// readBack asks the kernel what became of the interfaces, and checks the
// offloads.
func (l *Lab) readBack(context.Context) error {
	for _, n := range l.networks() {
		links, err := n.handle.LinkList()
		if err != nil {
			return fmt.Errorf("list links of %s: %w", n.name, err)
		}
		for _, link := range links {
			a := link.Attrs()
			if _, ours := n.links[a.Name]; !ours || a.Name == "lo" || link.Type() == "bridge" {
				continue
			}
			s := LinkState{Node: n.name, Interface: a.Name, MTU: a.MTU}
			if link.Type() == "veth" {
				s.MAC = a.HardwareAddr.String()
			}
			if s.Offloads, err = n.readOffloads(a.Name); err != nil {
				return err
			}
			if err := n.checkOffloads(a.Name, s.Offloads); err != nil {
				return err
			}
			l.links = append(l.links, s)
		}
	}
	return nil
}

// networks are all namespaces, nodes first.
func (l *Lab) networks() []*network {
	all := make([]*network, 0, len(l.nodes)+len(l.segments))
	for _, n := range l.nodes {
		all = append(all, n.network)
	}
	return append(all, l.segments...)
}

// Close takes the network down: sidecars first, then children, then sockets and
// namespaces. Sidecars are killed; stop them first (n.Sidecar().Stop) to drain
// their connections. Close goes on after errors and returns all of them. A second
// Close does nothing.
func (l *Lab) Close() error {
	var errs []error
	for _, n := range l.nodes {
		if n.sidecar != nil {
			errs = append(errs, n.sidecar.Close())
			n.sidecar = nil
		}
	}
	if l.spawner != nil {
		l.spawner.close()
		l.spawner = nil
	}
	for _, n := range l.nodes {
		if n.services != nil {
			errs = append(errs, n.services.Close())
			n.services = nil
		}
	}
	for _, n := range l.networks() {
		if err := n.close(); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", n.name, err))
		}
	}
	l.nodes, l.segments = nil, nil
	if l.home >= 0 {
		errs = append(errs, unix.Close(l.home))
		l.home = -1
	}
	return errors.Join(errs...)
}

// Node returns the node of that name, or nil.
func (l *Lab) Node(name string) *Node {
	for _, n := range l.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

// Nodes returns the nodes in the order of the Spec.
func (l *Lab) Nodes() []*Node { return slices.Clone(l.nodes) }

// Spec returns what the lab was made of.
func (l *Lab) Spec() topology.Spec { return l.spec }

// Links returns the interfaces of nodes, bridge ports included, as the kernel
// reported them when the lab was up.
func (l *Lab) Links() []LinkState { return slices.Clone(l.links) }

// Phases tells where the time of Up went, in order.
func (l *Lab) Phases() []Phase { return slices.Clone(l.phases) }
