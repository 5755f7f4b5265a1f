//go:build linux

// This file is the wire format: generic netlink messages of family IPVS, as in
// linux/ip_vs.h.

package ipvs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Commands, enum of IPVS_CMD_*.
const (
	cmdNewService = 1
	cmdSetService = 2
	cmdDelService = 3
	cmdGetService = 4
	cmdNewDest    = 5
	cmdSetDest    = 6
	cmdDelDest    = 7
	cmdGetDest    = 8
)

// Attributes of a command (IPVS_CMD_ATTR_*), of a service (IPVS_SVC_ATTR_*) and
// of a destination (IPVS_DEST_ATTR_*).
const (
	attrService = 1
	attrDest    = 2

	svcFamily    = 1
	svcProtocol  = 2
	svcAddress   = 3
	svcPort      = 4
	svcScheduler = 6
	svcFlags     = 7
	svcTimeout   = 8
	svcNetmask   = 9

	destAddress    = 1
	destPort       = 2
	destForwarding = 3
	destWeight     = 4
	destUpper      = 5
	destLower      = 6
	destActive     = 7
	destInactive   = 8
	destFamily     = 11
)

const (
	// flagPersistent is IP_VS_SVC_F_PERSISTENT.
	flagPersistent = 0x1
	// forwardingMask is IP_VS_CONN_F_FWD_MASK.
	forwardingMask = 0x7
	// typeMask is NLA_TYPE_MASK of linux/netlink.h.
	typeMask = ^uint16(unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
)

// request sends one command and returns the bodies of the answers.
func (h *Handle) request(cmd uint8, flags int, attrs ...*nl.RtAttr) ([][]byte, error) {
	if flags == 0 {
		flags = unix.NLM_F_ACK
	}
	return execute(h.socket, h.family, &nl.Genlmsg{Command: cmd, Version: 1}, flags, attrs...)
}

func execute(socket *nl.SocketHandle, family uint16, msg *nl.Genlmsg, flags int, attrs ...*nl.RtAttr) ([][]byte, error) {
	if socket == nil {
		return nil, errors.New("handle is closed")
	}
	req := nl.NewNetlinkRequest(int(family), flags)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_GENERIC: socket}
	req.AddData(msg)
	for _, a := range attrs {
		req.AddData(a)
	}
	answers, err := req.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil {
		return nil, err //nolint:wrapcheck // each command names itself
	}
	for i, a := range answers {
		if len(a) < nl.SizeofGenlmsg {
			return nil, fmt.Errorf("generic netlink answer of %d bytes is too short", len(a))
		}
		answers[i] = a[nl.SizeofGenlmsg:]
	}
	return answers, nil
}

// findFamily returns the number of a generic netlink family. It asks for the
// whole list, because CTRL_CMD_GETFAMILY by name may load a module.
func findFamily(socket *nl.SocketHandle, name string) (uint16, error) {
	ask := &nl.Genlmsg{Command: nl.GENL_CTRL_CMD_GETFAMILY, Version: nl.GENL_CTRL_VERSION}
	families, err := execute(socket, nl.GENL_ID_CTRL, ask, unix.NLM_F_DUMP)
	if err != nil {
		return 0, fmt.Errorf("list generic netlink families: %w", err)
	}
	for _, f := range families {
		attrs, err := parseAttrs(f)
		if err != nil {
			return 0, fmt.Errorf("read generic netlink family: %w", err)
		}
		if id := attrs[nl.GENL_CTRL_ATTR_FAMILY_ID]; cString(attrs[nl.GENL_CTRL_ATTR_FAMILY_NAME]) == name && len(id) == 2 {
			return binary.NativeEndian.Uint16(id), nil
		}
	}
	return 0, ErrNotSupported
}

func serviceAttr(s Service) (*nl.RtAttr, error) {
	if !s.Address.Is4() {
		return nil, fmt.Errorf("address %v is not IPv4", s.Address)
	}
	if s.Persistence < 0 || s.Persistence%time.Second != 0 {
		return nil, fmt.Errorf("persistence %v is not a whole number of seconds", s.Persistence)
	}
	var flags uint32
	if s.Persistence > 0 {
		flags = flagPersistent
	}
	attr := nl.NewRtAttr(attrService|unix.NLA_F_NESTED, nil)
	attr.AddRtAttr(svcFamily, nl.Uint16Attr(unix.AF_INET))
	attr.AddRtAttr(svcProtocol, nl.Uint16Attr(uint16(s.Protocol)))
	attr.AddRtAttr(svcAddress, s.Address.AsSlice())
	attr.AddRtAttr(svcPort, binary.BigEndian.AppendUint16(nil, s.Port))
	attr.AddRtAttr(svcScheduler, nl.ZeroTerminated(s.Scheduler))
	// struct ip_vs_flags: the flags, and which of them to change.
	attr.AddRtAttr(svcFlags, append(nl.Uint32Attr(flags), nl.Uint32Attr(^uint32(0))...))
	attr.AddRtAttr(svcTimeout, nl.Uint32Attr(uint32(s.Persistence/time.Second)))
	attr.AddRtAttr(svcNetmask, nl.Uint32Attr(^uint32(0)))
	return attr, nil
}

func destinationAttr(d Destination) (*nl.RtAttr, error) {
	if !d.Address.Is4() {
		return nil, fmt.Errorf("address %v is not IPv4", d.Address)
	}
	if d.Weight < 0 || d.Weight > 65535 {
		return nil, fmt.Errorf("weight %d is not within 0–65535", d.Weight)
	}
	attr := nl.NewRtAttr(attrDest|unix.NLA_F_NESTED, nil)
	attr.AddRtAttr(destFamily, nl.Uint16Attr(unix.AF_INET))
	attr.AddRtAttr(destAddress, d.Address.AsSlice())
	attr.AddRtAttr(destPort, binary.BigEndian.AppendUint16(nil, d.Port))
	attr.AddRtAttr(destForwarding, nl.Uint32Attr(uint32(d.Forwarding)&forwardingMask))
	attr.AddRtAttr(destWeight, nl.Uint32Attr(uint32(d.Weight)))
	attr.AddRtAttr(destUpper, nl.Uint32Attr(0))
	attr.AddRtAttr(destLower, nl.Uint32Attr(0))
	return attr, nil
}

// parseService reads the body of an answer to IPVS_CMD_GET_SERVICE. Services of
// IPv6 and of firewall marks are not ok.
func parseService(body []byte) (s Service, ok bool, err error) {
	a, err := parseNested(body, attrService)
	if err != nil {
		return s, false, err
	}
	if a.uint16(svcFamily) != unix.AF_INET || a.uint16(svcProtocol) == 0 {
		return s, false, nil
	}
	s = Service{
		Protocol:  Protocol(a.uint16(svcProtocol)),
		Address:   a.ipv4(svcAddress),
		Port:      a.port(svcPort),
		Scheduler: cString(a[svcScheduler]),
	}
	// The first half of struct ip_vs_flags.
	if flags := a[svcFlags]; len(flags) >= 4 && binary.NativeEndian.Uint32(flags)&flagPersistent != 0 {
		s.Persistence = time.Duration(a.uint32(svcTimeout)) * time.Second
	}
	return s, true, nil
}

// parseDestination reads the body of an answer to IPVS_CMD_GET_DEST.
func parseDestination(body []byte) (Destination, error) {
	a, err := parseNested(body, attrDest)
	if err != nil {
		return Destination{}, err
	}
	return Destination{
		Address:             a.ipv4(destAddress),
		Port:                a.port(destPort),
		Forwarding:          Forwarding(a.uint32(destForwarding) & forwardingMask),
		Weight:              int(a.uint32(destWeight)),
		ActiveConnections:   int(a.uint32(destActive)),
		InactiveConnections: int(a.uint32(destInactive)),
	}, nil
}

// attributes are netlink attributes by type, without the flag bits.
type attributes map[uint16][]byte

// parseAttrs reads a sequence of attributes. (nl.ParseRouteAttr panics when the
// last one lacks its padding.)
func parseAttrs(b []byte) (attributes, error) {
	a := make(attributes)
	for len(b) >= unix.SizeofRtAttr {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofRtAttr || length > len(b) {
			return nil, fmt.Errorf("netlink attribute of %d bytes where %d are left", length, len(b))
		}
		a[binary.NativeEndian.Uint16(b[2:])&typeMask] = b[unix.SizeofRtAttr:length]
		b = b[min(len(b), (length+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1)):]
	}
	return a, nil
}

func parseNested(b []byte, typ uint16) (attributes, error) {
	outer, err := parseAttrs(b)
	if err != nil {
		return nil, err
	}
	inner, ok := outer[typ]
	if !ok {
		return nil, fmt.Errorf("netlink attribute %d is missing", typ)
	}
	return parseAttrs(inner)
}

func (a attributes) uint16(typ uint16) uint16 {
	if b := a[typ]; len(b) >= 2 {
		return binary.NativeEndian.Uint16(b)
	}
	return 0
}

func (a attributes) uint32(typ uint16) uint32 {
	if b := a[typ]; len(b) >= 4 {
		return binary.NativeEndian.Uint32(b)
	}
	return 0
}

func (a attributes) port(typ uint16) uint16 {
	if b := a[typ]; len(b) >= 2 {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// ipv4 reads the first four bytes of a union nf_inet_addr.
func (a attributes) ipv4(typ uint16) netip.Addr {
	if b := a[typ]; len(b) >= 4 {
		return netip.AddrFrom4([4]byte(b))
	}
	return netip.Addr{}
}

func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
