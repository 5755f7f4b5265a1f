//go:build linux

package ipvs

import (
	"fmt"
	"net/netip"
	"time"
)

// Protocol is the transport protocol of a virtual service, by IP number.
type Protocol uint16

const (
	TCP Protocol = 6
	UDP Protocol = 17
)

// String is the protocol's name as in ipvsadm: TCP or UDP.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	default:
		return fmt.Sprintf("protocol %d", uint16(p))
	}
}

// Forwarding is the forwarding method of a destination (IP_VS_CONN_F_* of
// linux/ip_vs.h).
type Forwarding uint32

const (
	// Masquerade rewrites the destination address: NAT.
	Masquerade Forwarding = 0
	// Tunnel wraps the packet in a second IPv4 header: IPIP.
	Tunnel Forwarding = 2
	// DirectRoute changes only the Ethernet destination.
	DirectRoute Forwarding = 3
)

// String is the name as in ipvsadm's listing.
func (f Forwarding) String() string {
	switch f {
	case Masquerade:
		return "Masq"
	case Tunnel:
		return "Tunnel"
	case DirectRoute:
		return "Route"
	default:
		return fmt.Sprintf("forwarding %d", uint32(f))
	}
}

// Service is a virtual service. Protocol, Address and Port identify it.
type Service struct {
	Protocol Protocol
	// Address is the virtual IP (VIP), IPv4.
	Address netip.Addr
	Port    uint16
	// Scheduler is the name of the scheduling algorithm: rr, wrr, lc, wlc, sh…
	Scheduler string
	// Persistence keeps a client on the destination it was given, in whole
	// seconds; 0 switches it off.
	Persistence time.Duration
	// Destinations are the real servers, in no order.
	Destinations []Destination
}

// String names the service as ipvsadm lists it: "TCP 10.0.0.2:443".
func (s Service) String() string {
	return fmt.Sprintf("%v %v", s.Protocol, netip.AddrPortFrom(s.Address, s.Port))
}

// Destination is a real server of a Service. Address and Port identify it.
type Destination struct {
	Address netip.Addr
	// Port must be the service's for Tunnel and DirectRoute.
	Port       uint16
	Forwarding Forwarding
	// Weight is the share of new connections, 0–65535; at 0 the destination
	// keeps its connections and gets no new ones.
	Weight int

	// ActiveConnections and InactiveConnections are what the kernel counts:
	// established, and all others. Services fills them in; Add and the
	// changing calls ignore them.
	ActiveConnections, InactiveConnections int
}

// String names the destination: "10.0.0.6:443".
func (d Destination) String() string {
	return netip.AddrPortFrom(d.Address, d.Port).String()
}
