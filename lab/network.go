//go:build linux

// This file is what nodes and segments have in common: a namespace, its open
// sockets, and requests to the kernel's routing netlink.

package lab

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/topology"
)

// answerDeadline bounds every answer of the kernel. Answers take microseconds;
// many namespaces that are being taken down can hold RTNL for a second.
const answerDeadline = 30 * time.Second

// network is a namespace with the sockets to configure it.
type network struct {
	*namespace
	name string
	// route is a routing netlink socket for requests that package netlink
	// cannot make.
	route *nl.SocketHandle
	// handle is package netlink's own socket, for the user of a Node.
	handle *netlink.Handle
	// ethtool is any socket of the namespace, for the ethtool ioctl.
	ethtool int
	// links are the interfaces that the lab made, by name. Their indices start
	// at firstIndex, clear of the devices that come with a namespace (lo, and
	// tunl0, sit0 and their like where net.core.fb_tunnels_only_for_init_net
	// is 0).
	links map[string]int
	// offloads are what was set, by interface.
	offloads map[string]topology.Offloads
	// sysctls are those of single interfaces, written before they come up.
	sysctls map[string][]sysctl
}

const firstIndex = 100

// newNetwork makes a namespace, opens its sockets, writes the sysctls that are
// not about one interface, and brings lo up. The first call with an empty fresh
// fills it.
func newNetwork(home int, name string, fresh fresh, baseline []sysctl, spec map[string]string) (*network, error) {
	general, byInterface := splitSysctls(baseline, spec)
	n := &network{
		namespace: &namespace{fd: -1, home: home}, name: name, ethtool: -1,
		links: map[string]int{"lo": 1}, offloads: map[string]topology.Offloads{}, sysctls: byInterface,
	}
	err := n.create(func() error {
		if err := n.open(); err != nil {
			return err
		}
		if len(fresh) == 0 {
			fresh.read(general)
		}
		return writeSysctls(name, fresh.changes(general))
	})
	if err == nil {
		err = n.setUp("lo")
	}
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", name, errors.Join(err, n.close()))
	}
	return n, nil
}

// open opens the sockets; it runs inside the namespace.
func (n *network) open() error {
	socket, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open routing netlink socket: %w", err)
	}
	n.route = &nl.SocketHandle{Socket: socket}
	limit := unix.NsecToTimeval(answerDeadline.Nanoseconds())
	err = errors.Join(socket.SetSendTimeout(&limit), socket.SetReceiveTimeout(&limit), socket.SetExtAck(true))
	if err != nil {
		return fmt.Errorf("prepare routing netlink socket: %w", err)
	}
	// NETLINK_ROUTE alone: by default a handle also opens sockets that a
	// kernel without XFRM or netfilter refuses.
	if n.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open netlink handle: %w", err)
	}
	if n.ethtool, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open ethtool socket: %w", err)
	}
	return nil
}

// close releases sockets and namespace; the kernel then takes down what is in it.
func (n *network) close() error {
	if n.route != nil {
		n.route.Socket.Close()
		n.route = nil
	}
	if n.handle != nil {
		n.handle.Close()
	}
	var err error
	if n.ethtool >= 0 {
		err = unix.Close(n.ethtool)
		n.ethtool = -1
	}
	return errors.Join(err, n.namespace.close())
}

// request is a message to the namespace's routing netlink.
func (n *network) request(typ, flags int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(typ, flags)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: n.route}
	return req
}

// index returns the index of an interface that the lab made, or of lo.
func (n *network) index(iface string) (int, error) {
	i, ok := n.links[iface]
	if !ok {
		return 0, fmt.Errorf("%s has no interface %q", n.name, iface)
	}
	return i, nil
}

// newIndex registers an interface that is about to be made.
func (n *network) newIndex(iface string) int {
	i := firstIndex + len(n.links) - 1 // lo is not counted
	n.links[iface] = i
	return i
}
