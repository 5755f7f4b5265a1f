//go:build linux

// Where a redirected connection was bound before the redirect.

package sidecar

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// soOriginalDst is SO_ORIGINAL_DST of linux/netfilter_ipv4.h.
const soOriginalDst = 80

// errNotRedirected says that a connection has no other original destination.
var errNotRedirected = errors.New("connection was not redirected")

// originalDestination asks connection tracking for the destination that the
// connection's first packet had (getorigdst in nf_conntrack_proto.c). It
// returns errNotRedirected when that is unknown; when the connection is known
// but was not redirected, the destination is the connection's own local
// address.
func originalDestination(conn *net.TCPConn) (netip.AddrPort, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("get original destination: %w", err)
	}
	var (
		// The option fills a struct sockaddr_in, 16 bytes, which is what
		// Multiaddr of this type holds.
		mreq   *unix.IPv6Mreq
		optErr error
	)
	if err := raw.Control(func(fd uintptr) {
		mreq, optErr = unix.GetsockoptIPv6Mreq(int(fd), unix.SOL_IP, soOriginalDst)
	}); err != nil {
		return netip.AddrPort{}, fmt.Errorf("get original destination: %w", err)
	}
	switch {
	case errors.Is(optErr, unix.ENOENT), errors.Is(optErr, unix.ENOPROTOOPT):
		return netip.AddrPort{}, errNotRedirected
	case optErr != nil:
		return netip.AddrPort{}, fmt.Errorf("get original destination of %s: %w", conn.RemoteAddr(), optErr)
	}
	return parseSockaddrIn(mreq.Multiaddr)
}

// parseSockaddrIn reads a struct sockaddr_in: family in host order, port and
// address in network order.
func parseSockaddrIn(b [16]byte) (netip.AddrPort, error) {
	if family := binary.NativeEndian.Uint16(b[0:]); family != unix.AF_INET {
		return netip.AddrPort{}, fmt.Errorf("original destination has address family %d, not IPv4", family)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:])), nil
}
