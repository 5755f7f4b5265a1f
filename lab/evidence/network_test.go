//go:build linux && kernel

package evidence_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab/capability"
	"github.com/pmtulab/pmtulab/lab/evidence"
)

// network is what the kernel tests look at. The server's side of the router
// takes less than anybody else knows of:
//
//	client ──────────── router ──────────── server
//	10.1.0.1  1500/1500  10.1.0.2
//	                     10.2.0.2  1400/1500  10.2.0.1
//
// A full segment of the client is refused by the router with an ICMP
// frag-needed, mtu 1400.
type network struct {
	client, router, server *node
}

const port = 4433

var (
	clientAddress = netip.MustParseAddr("10.1.0.1")
	routerNear    = netip.MustParseAddr("10.1.0.2")
	routerFar     = netip.MustParseAddr("10.2.0.2")
	serverAddress = netip.MustParseAddr("10.2.0.1")
)

func newNetwork(t testing.TB) *network {
	t.Helper()
	n := &network{client: newNode(t, "client"), router: newNode(t, "router"), server: newNode(t, "server")}
	n.client.link(t, "eth0", 1500, n.router, "near", 1500)
	n.router.link(t, "far", 1400, n.server, "eth0", 1500)
	n.client.address(t, "eth0", clientAddress)
	n.router.address(t, "near", routerNear)
	n.router.address(t, "far", routerFar)
	n.server.address(t, "eth0", serverAddress)
	n.client.gateway(t, routerNear)
	n.server.gateway(t, routerFar)
	must(t, n.router.Do(func() error {
		return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
	}))
	return n
}

// connect makes a TCP connection from client to server. Both ends are closed
// with the test.
func (n *network) connect(t testing.TB) (client, server *net.TCPConn) {
	t.Helper()
	ctx := t.Context()
	var listener net.Listener
	must(t, n.server.Do(func() (err error) {
		config := net.ListenConfig{KeepAlive: -1}
		listener, err = config.Listen(ctx, "tcp4", netip.AddrPortFrom(serverAddress, port).String())
		return err
	}))
	defer listener.Close()
	var conn net.Conn
	must(t, n.client.Do(func() (err error) {
		dialer := net.Dialer{KeepAlive: -1}
		conn, err = dialer.DialContext(ctx, "tcp4", listener.Addr().String())
		return err
	}))
	accepted, err := listener.Accept()
	must(t, err)
	t.Cleanup(func() { conn.Close(); accepted.Close() })
	return conn.(*net.TCPConn), accepted.(*net.TCPConn)
}

func endpoints(c net.Conn) (local, remote netip.AddrPort) {
	return netip.MustParseAddrPort(c.LocalAddr().String()), netip.MustParseAddrPort(c.RemoteAddr().String())
}

// node is a network namespace of its own that ends with the test.
type node struct {
	name  string
	ns    netns.NsHandle
	links *netlink.Handle
}

var _ evidence.Node = (*node)(nil)

func newNode(t testing.TB, name string) *node {
	t.Helper()
	n := &node{name: name}
	err := onThread(func() (err error) {
		n.ns, err = netns.New()
		return err
	})
	if errors.Is(err, unix.EPERM) {
		capability.Missing(t, err, "netns")
	}
	must(t, err)
	t.Cleanup(func() { n.ns.Close() })
	n.links, err = netlink.NewHandleAt(n.ns, unix.NETLINK_ROUTE)
	must(t, err)
	t.Cleanup(n.links.Close)
	n.up(t, "lo")
	return n
}

func (n *node) Name() string { return n.name }

func (n *node) Do(f func() error) error {
	return onThread(func() error {
		if err := netns.Set(n.ns); err != nil {
			return err
		}
		return f()
	})
}

// onThread runs f on a thread that it may take to another namespace.
func onThread(f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and never back: the thread ends with the goroutine
		result <- f()
	}()
	return <-result
}

func (n *node) link(t testing.TB, name string, mtu int, peer *node, peerName string, peerMTU int) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.Namespace = name, mtu, netlink.NsFd(n.ns)
	must(t, n.links.LinkAdd(&netlink.Veth{
		LinkAttrs: attrs, PeerName: peerName, PeerMTU: uint32(peerMTU), PeerNamespace: netlink.NsFd(peer.ns),
	}))
	n.up(t, name)
	peer.up(t, peerName)
}

func (n *node) find(t testing.TB, name string) netlink.Link {
	t.Helper()
	link, err := n.links.LinkByName(name)
	must(t, err)
	return link
}

func (n *node) up(t testing.TB, name string) {
	t.Helper()
	must(t, n.links.LinkSetUp(n.find(t, name)))
}

func (n *node) down(t testing.TB, name string) {
	t.Helper()
	must(t, n.links.LinkSetDown(n.find(t, name)))
}

func (n *node) address(t testing.TB, name string, address netip.Addr) {
	t.Helper()
	must(t, n.links.AddrAdd(n.find(t, name), &netlink.Addr{IPNet: &net.IPNet{IP: address.AsSlice(), Mask: net.CIDRMask(24, 32)}}))
}

func (n *node) gateway(t testing.TB, via netip.Addr) {
	t.Helper()
	must(t, n.links.RouteAdd(&netlink.Route{Gw: via.AsSlice()}))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// exchange writes size bytes and waits until the other side has them.
func exchange(from, to net.Conn, size int) error {
	written := make(chan error, 1)
	go func() {
		_, err := from.Write(make([]byte, size))
		written <- err
	}()
	buffer := make([]byte, size)
	for got := 0; got < size; {
		n, err := to.Read(buffer)
		if err != nil {
			return errors.Join(fmt.Errorf("read after %d of %d bytes: %w", got, size, err), <-written)
		}
		got += n
	}
	return <-written
}
