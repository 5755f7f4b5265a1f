//go:build linux

// Changes to a lab that is up, as an administrator makes them on a running
// machine.

package lab

import (
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/topology"
)

// ReplaceRoute adds a route to the node, or replaces the one to the same
// destination, like ip route replace.
func (n *Node) ReplaceRoute(r topology.Route) error {
	return n.putRoute(r, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
}

// SetMTU sets the MTU in bytes of one interface of the node, like ip link set.
// The other end of a link keeps its own. A veth drops what arrives longer than
// its MTU and the link header (is_skb_forwardable, net/core/dev.c), which a
// network card need not do.
func (n *Node) SetMTU(iface string, mtu int) error {
	index, err := n.index(iface)
	if err != nil {
		return fmt.Errorf("set the MTU of %s of node %s: %w", iface, n.name, err)
	}
	req := n.request(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(mtu))))
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("set the MTU of %s of node %s to %d: %w", iface, n.name, mtu, err)
	}
	return nil
}
