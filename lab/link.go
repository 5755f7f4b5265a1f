//go:build linux

// This file makes links: veth pairs, bridges and tunnels, each by one request
// that sets everything, so that no half-made interface is ever seen.

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab/wait"
	"github.com/pmtulab/pmtulab/topology"
)

// bridgeName is the name of a segment's bridge.
const bridgeName = "br0"

// vethEnd is one end of a veth pair.
type vethEnd struct {
	net  *network
	name string
	mtu  int
	// mac may be nil, then the kernel chooses one.
	mac net.HardwareAddr
	// master is the index of the bridge that the end joins; it comes up at
	// once. 0 is none: it stays down. Only the first end can have one.
	master int
}

// addVeth makes a veth pair. The request goes to the first end's namespace and
// names the second's, so both ends appear where they belong.
func addVeth(a, b vethEnd) error {
	req := a.net.request(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	// The kernel honours the peer's index only when this one is given too
	// (veth_newlink).
	msg.Index = int32(a.net.newIndex(a.name))
	if a.master != 0 {
		msg.Flags, msg.Change = unix.IFF_UP, unix.IFF_UP
	}
	req.AddData(msg)
	for _, attr := range a.attributes() {
		req.AddData(attr)
	}
	if a.master != 0 {
		req.AddData(nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(a.master))))
	}

	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	nl.NewIfInfomsgChild(peer, unix.AF_UNSPEC).Index = int32(b.net.newIndex(b.name))
	for _, attr := range b.attributes() {
		peer.AddChild(attr)
	}
	peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(b.net.fd)))
	req.AddData(info)

	if err := create(req, "veth"); err != nil {
		return fmt.Errorf("create veth pair %s:%s–%s:%s: %w", a.net.name, a.name, b.net.name, b.name, err)
	}
	return nil
}

func (e vethEnd) attributes() []*nl.RtAttr {
	attrs := []*nl.RtAttr{
		nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(e.name)),
		nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(e.mtu))),
	}
	if e.mac != nil {
		attrs = append(attrs, nl.NewRtAttr(unix.IFLA_ADDRESS, e.mac))
	}
	return attrs
}

// addBridge makes a bridge that forwards at once: no spanning tree, no forward
// delay, no IGMP and MLD snooping, which would send queries of its own.
func addBridge(n *network) error {
	req := n.request(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(n.newIndex(bridgeName))
	msg.Flags, msg.Change = unix.IFF_UP, unix.IFF_UP
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(bridgeName)))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("bridge"))
	data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	data.AddRtAttr(nl.IFLA_BR_STP_STATE, nl.Uint32Attr(0))
	data.AddRtAttr(nl.IFLA_BR_FORWARD_DELAY, nl.Uint32Attr(0))
	data.AddRtAttr(nl.IFLA_BR_MCAST_SNOOPING, nl.Uint8Attr(0))
	req.AddData(info)
	if err := create(req, "bridge"); err != nil {
		return fmt.Errorf("create bridge of segment %s: %w", n.name, err)
	}
	return nil
}

// addTunnel makes a tunnel device with its addresses and brings it up.
func addTunnel(n *network, t topology.Tunnel) error {
	if t.Mode != topology.IPIP {
		return fmt.Errorf("create tunnel %s of node %s: unknown mode %q", t.Name, n.name, t.Mode)
	}
	// Creating it would load the module, and that shows on the host: tunl0.
	if err := n.requireKind(string(t.Mode)); err != nil {
		return fmt.Errorf("create tunnel %s of node %s: %w", t.Name, n.name, err)
	}

	if err := n.makeTunnel(t); err != nil {
		return fmt.Errorf("create tunnel %s of node %s: %w", t.Name, n.name, err)
	}
	if err := n.addAddresses(t.Name, t.Addresses); err != nil {
		return err
	}
	return n.setUp(t.Name)
}

// fallbackTunnel is the device that ipip puts into every namespace where
// net.core.fb_tunnels_only_for_init_net is 0.
const fallbackTunnel = "tunl0"

// makeTunnel makes the device. There can be one from any to any address only: if
// the namespace came with it, it is renamed.
func (n *network) makeTunnel(t topology.Tunnel) error {
	req := n.request(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(t.Name)))
	if t.MTU != 0 {
		req.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(t.MTU))))
	}
	anyToAny := !t.Local.IsValid() && !t.Remote.IsValid()
	if fallback, err := n.handle.LinkByName(fallbackTunnel); err == nil && anyToAny {
		n.links[t.Name] = fallback.Attrs().Index
		msg.Index = int32(fallback.Attrs().Index)
		_, err := req.Execute(unix.NETLINK_ROUTE, 0)
		return err //nolint:wrapcheck // the caller names the tunnel
	}

	req.Flags |= unix.NLM_F_CREATE | unix.NLM_F_EXCL
	msg.Index = int32(n.newIndex(t.Name))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("ipip"))
	data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	if t.Local.IsValid() {
		data.AddRtAttr(nl.IFLA_IPTUN_LOCAL, t.Local.AsSlice())
	}
	if t.Remote.IsValid() {
		data.AddRtAttr(nl.IFLA_IPTUN_REMOTE, t.Remote.AsSlice())
	}
	// As ip-tunnel(8): path-MTU discovery on, TTL inherited.
	data.AddRtAttr(nl.IFLA_IPTUN_PMTUDISC, nl.Uint8Attr(1))
	req.AddData(info)
	return create(req, "ipip")
}

// create executes a request that makes a link of a kind.
func create(req *nl.NetlinkRequest, kind string) error {
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return missingKind(kind, err)
	}
	return err //nolint:wrapcheck // the caller names the link
}

// addAddresses adds addresses to an interface.
func (n *network) addAddresses(iface string, prefixes []netip.Prefix) error {
	index, err := n.index(iface)
	if err != nil {
		return err
	}
	link := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: iface, Index: index}}
	for _, p := range prefixes {
		ip := net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
		if err := n.handle.AddrAdd(link, &netlink.Addr{IPNet: &ip}); err != nil {
			return fmt.Errorf("add address %v to %s of %s: %w", p, iface, n.name, err)
		}
	}
	return nil
}

// setUp writes the sysctls of an interface and brings it up.
func (n *network) setUp(iface string) error {
	index, err := n.index(iface)
	if err != nil {
		return err
	}
	if own := n.sysctls[iface]; len(own) > 0 {
		if err := n.do(func() error { return writeSysctls(n.name, own) }); err != nil {
			return err
		}
	}
	req := n.request(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	msg.Flags, msg.Change = unix.IFF_UP, unix.IFF_UP
	req.AddData(msg)
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("bring up %s of %s: %w", iface, n.name, err)
	}
	return nil
}

// awaitCarrier waits until the named links of the namespace, those that came up
// before their peers, carry packets. Until the kernel's linkwatch has seen the
// peer, such a device drops packets silently, and a bridge does not forward to
// it (dev_activate, br_port_carrier_check); its operational state tells when
// that is over. The end that comes up last carries packets at once, though its
// operational state may lag by a second (linkwatch_schedule_work).
func (n *network) awaitCarrier(ctx context.Context, names []string) error {
	return wait.Until(ctx, "links of "+n.name+" to come up", time.Millisecond, func() error {
		links, err := n.handle.LinkList()
		if err != nil {
			return fmt.Errorf("list links of %s: %w", n.name, err)
		}
		for _, l := range links {
			a := l.Attrs()
			if slices.Contains(names, a.Name) && a.OperState != netlink.OperUp {
				return fmt.Errorf("%s of %s is %s", a.Name, n.name, a.OperState)
			}
		}
		return nil
	})
}
