// Package topology describes a network: nodes, links, bridge segments, MTUs,
// routes, sysctls, tunnels, virtual services and sidecars. A Spec is plain data
// that is read from YAML or written in Go, validated as a whole, and drawn. It
// makes no kernel call and builds on every operating system; package lab brings
// a Spec to life.
package topology

import (
	"net/netip"
	"time"
)

// Spec is a whole network. The zero value of every field is the field's
// documented default.
type Spec struct {
	// Name is written like a node's, at most 63 characters.
	Name string `yaml:"name"`
	// Nodes are network namespaces, in the order in which they are drawn.
	Nodes []Node `yaml:"nodes"`
	// Links are point-to-point veth pairs.
	Links []Link `yaml:"links,omitempty"`
	// Segments are Ethernet bridges; each lives in a namespace of its own.
	Segments []Segment `yaml:"segments,omitempty"`
}

// Node is one network namespace.
type Node struct {
	// Name is unique among nodes and segments: lower-case letters, digits and
	// dashes, a letter first, at most 15.
	Name string `yaml:"name"`
	// Kind is for drawings only: client, load-balancer, real-server, router
	// or empty.
	Kind Kind `yaml:"kind,omitempty"`
	// Sysctls are written under /proc/sys before the node's interfaces come
	// up; keys are dotted (net.ipv4.conf.all.rp_filter) or with slashes, see
	// SysctlPath. Only sysctls below net are a node's own.
	Sysctls map[string]string `yaml:"sysctls,omitempty"`
	// Loopback holds addresses of lo beside 127.0.0.1, each a /32: on lo a
	// wider prefix would make its whole subnet local.
	Loopback []netip.Prefix `yaml:"loopback,omitempty"`
	// Tunnels are its tunnel devices.
	Tunnels []Tunnel `yaml:"tunnels,omitempty"`
	// Routes are added in this order, once the interfaces are up.
	Routes []Route `yaml:"routes,omitempty"`
	// Services are IPVS virtual services of this node.
	Services []VirtualService `yaml:"services,omitempty"`
	// Sidecar redirects outbound TCP of the node through a proxy.
	Sidecar *Sidecar `yaml:"sidecar,omitempty"`
}

// Kind says what a node is in a drawing.
type Kind string

const (
	Client       Kind = "client"
	LoadBalancer Kind = "load-balancer"
	RealServer   Kind = "real-server"
	Router       Kind = "router"
)

// Link is a veth pair between two nodes.
type Link struct {
	// Ends may differ in MTU. A packet that is more than 4 bytes, a VLAN tag,
	// over the receiver's is then dropped, and no ICMP tells the sender
	// (is_skb_forwardable).
	Ends [2]End `yaml:"ends"`
}

// Segment is a bridge with one veth pair for each port. The bridge's own side
// of each pair has the port's MTU and offloads as well.
type Segment struct {
	// Name is written like a node's and unique among nodes and segments.
	Name string `yaml:"name"`
	// Ports are the interfaces that it joins, 2–1024.
	Ports []End `yaml:"ports"`
}

// End is one end of a veth pair within a node.
type End struct {
	// Node is the name of a node.
	Node string `yaml:"node"`
	// Name is the interface's name, at most 15 bytes. Default: eth0, eth1, …
	// in the order of the Spec.
	Name string `yaml:"name,omitempty"`
	// MTU in bytes, 68–65535. Default: 1500.
	MTU int `yaml:"mtu,omitempty"`
	// MAC defaults to a locally administered address made of the names of
	// topology, node and interface, the same in every run.
	MAC string `yaml:"mac,omitempty"`
	// Addresses are IPv4 addresses with the prefix length of their subnet.
	Addresses []netip.Prefix `yaml:"addresses,omitempty"`
	// Offloads are off unless named.
	Offloads Offloads `yaml:"offloads,omitempty"`
}

// Offloads are the offloads of one interface. The zero value switches all of
// them off: every packet is then as long as it would be on a wire.
type Offloads struct {
	// TSO is tcp-segmentation-offload: the device takes packets over its MTU.
	TSO bool `yaml:"tso,omitempty"`
	// GSO is generic-segmentation-offload: segmentation just before the device.
	GSO bool `yaml:"gso,omitempty"`
	// GRO is generic-receive-offload.
	GRO bool `yaml:"gro,omitempty"`
	// TxChecksum is checksumming by the device; veth then sends packets with
	// an unfinished checksum. TSO and GSO need it.
	TxChecksum bool `yaml:"tx-checksum,omitempty"`
}

// Tunnel is a tunnel device of a node.
type Tunnel struct {
	// Name is the interface's name, at most 15 bytes.
	Name string `yaml:"name"`
	// Mode is ipip, the default and the only one so far.
	Mode TunnelMode `yaml:"mode,omitempty"`
	// Local and Remote are the outer addresses; unset means any (0.0.0.0),
	// which receives from every load balancer.
	Local  netip.Addr `yaml:"local,omitempty"`
	Remote netip.Addr `yaml:"remote,omitempty"`
	// MTU in bytes, 68–65515; 0 leaves the kernel's choice.
	MTU int `yaml:"mtu,omitempty"`
	// Addresses are IPv4 addresses, such as VIPs, with prefix length.
	Addresses []netip.Prefix `yaml:"addresses,omitempty"`
}

// TunnelMode is the encapsulation of a tunnel device.
type TunnelMode string

// IPIP is IPv4 in IPv4, RFC 2003.
const IPIP TunnelMode = "ipip"

// Route is a route with the metrics of ip-route(8).
type Route struct {
	// To is the destination; 0.0.0.0/0 is written "default" in YAML.
	To Destination `yaml:"to"`
	// Via is the next hop; unset means on link.
	Via netip.Addr `yaml:"via,omitempty"`
	// Dev is the outgoing interface; unset lets the kernel find it from Via.
	Dev string `yaml:"dev,omitempty"`
	// Src is the preferred source address.
	Src netip.Addr `yaml:"src,omitempty"`
	// Priority orders routes to the same destination (ip: metric); lower wins.
	Priority int `yaml:"priority,omitempty"`
	// Table is the routing table, default 254 (main).
	Table int `yaml:"table,omitempty"`

	// MTU in bytes, 68–65520; 0 leaves the device's. MTULock keeps path-MTU
	// discovery from changing it and clears DF (ip: mtu lock N).
	MTU     int  `yaml:"mtu,omitempty"`
	MTULock bool `yaml:"mtu-lock,omitempty"`
	// AdvMSS is the MSS advertised in SYNs, bytes, at most 65495.
	AdvMSS int `yaml:"advmss,omitempty"`
	// RTOMin is the lower bound of the retransmission timeout, whole
	// milliseconds up to 2 minutes; so is RTT.
	RTOMin time.Duration `yaml:"rto-min,omitempty"`
	// RTT is the initial round-trip estimate.
	RTT time.Duration `yaml:"rtt,omitempty"`
	// Quickack acknowledges every segment at once.
	Quickack bool `yaml:"quickack,omitempty"`
	// InitCwnd and InitRwnd are initial windows in segments.
	InitCwnd int `yaml:"initcwnd,omitempty"`
	InitRwnd int `yaml:"initrwnd,omitempty"`
	// Window clamps the advertised window, bytes.
	Window int `yaml:"window,omitempty"`
}

// VirtualService is one IPVS virtual service.
type VirtualService struct {
	// Address is the VIP, which the node holds.
	Address netip.Addr `yaml:"address"`
	// Port is 1–65535.
	Port uint16 `yaml:"port"`
	// Protocol is tcp (the default) or udp.
	Protocol string `yaml:"protocol,omitempty"`
	// Scheduler is rr (the default), wrr, lc, wlc, lblc, lblcr, dh, sh, sed,
	// nq, fo, ovf, mh or twos, as far as the kernel has it.
	Scheduler string `yaml:"scheduler,omitempty"`
	// Persistence keeps a client on its real server, whole seconds; 0 is off.
	Persistence time.Duration `yaml:"persistence,omitempty"`
	// RealServers are the destinations, at least one.
	RealServers []RealServerEntry `yaml:"real-servers"`
}

// RealServerEntry is one destination of a virtual service.
type RealServerEntry struct {
	// Address is that of a node.
	Address netip.Addr `yaml:"address"`
	// Port defaults to the service's; it must be that for tunnel and
	// direct-route forwarding.
	Port uint16 `yaml:"port,omitempty"`
	// Forwarding is the forwarding method: tunnel, direct-route, masquerade.
	Forwarding Forwarding `yaml:"forwarding"`
	// Weight, 0–65535, defaults to 1; an explicit 0 takes no new connections.
	Weight *int `yaml:"weight,omitempty"`
}

// Forwarding is the IPVS forwarding method.
type Forwarding string

const (
	Tunneling   Forwarding = "tunnel"       // IPIP, ipvsadm -i
	DirectRoute Forwarding = "direct-route" // ipvsadm -g
	Masquerade  Forwarding = "masquerade"   // NAT, ipvsadm -m
)

// Sidecar is an Envoy-like transparent TCP proxy in its node.
type Sidecar struct {
	// Port is where it listens, 1–65535, default 15001.
	Port uint16 `yaml:"port,omitempty"`
	// UID is the user it runs as and whose traffic is not redirected,
	// default 1337.
	UID int `yaml:"uid,omitempty"`
	// ConnectTimeout bounds the upstream connect, 1 ms–1 h, default 10 s.
	ConnectTimeout time.Duration `yaml:"connect-timeout,omitempty"`
}

// Destination is the destination of a Route: a prefix, "default", or an
// address, which stands for itself alone.
type Destination struct{ netip.Prefix }
