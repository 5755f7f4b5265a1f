//go:build linux

package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"

	"github.com/vishvananda/netlink"

	"github.com/pmtulab/pmtulab/lab/ipvs"
	"github.com/pmtulab/pmtulab/lab/sidecar"
)

// Node is a node of a running lab. It belongs to its Lab and must not be used
// once that is closed. Its methods may be called from several goroutines.
type Node struct {
	*network
	spawner  *spawner
	services *ipvs.Handle
	sidecar  *sidecar.Process
}

// Name is the node's name in the Spec.
func (n *Node) Name() string { return n.name }

// Do runs f inside the node, on a goroutine of its own that is locked to its
// thread, and returns f's error. Do of another node may be called inside f.
// Goroutines that f starts are not in the node; sockets and files that f opens
// stay bound to it. A panic or runtime.Goexit of f continues in the caller, so
// FailNow works inside.
func (n *Node) Do(f func() error) error { return n.do(f) }

// Handle is a routing netlink handle of the node, for changes to the running
// network. It is the node's: do not close it.
func (n *Node) Handle() *netlink.Handle { return n.handle }

// FD is the file descriptor of the node's network namespace. It is the node's:
// do not close it.
func (n *Node) FD() int { return n.fd }

// NamespacePath is a path of the node's network namespace that this process can
// open: /proc/self/fd/N.
func (n *Node) NamespacePath() string { return "/proc/self/fd/" + strconv.Itoa(n.fd) }

// Index is the index of one of the node's interfaces.
func (n *Node) Index(iface string) (int, error) { return n.index(iface) }

// Listen opens a listening socket in the node. The address's host must be empty
// or an IP address: names are looked up by other goroutines, outside. Multipath
// TCP, Go's default for listeners, is off: its sockets are not plain TCP to
// inet_diag. lc may be nil.
func (n *Node) Listen(ctx context.Context, lc *net.ListenConfig, network, address string) (net.Listener, error) {
	var c net.ListenConfig
	if lc != nil {
		c = *lc
	}
	c.SetMultipathTCP(false)
	if err := literal(address); err != nil {
		return nil, fmt.Errorf("listen on %s of node %s: %w", address, n.name, err)
	}
	var l net.Listener
	err := n.do(func() (err error) {
		l, err = c.Listen(ctx, network, address)
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return nil, fmt.Errorf("listen on %s of node %s: %w", address, n.name, err)
	}
	return l, nil
}

// Dial connects from the node, under the same conditions as Listen. d may be
// nil.
func (n *Node) Dial(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error) {
	var dialer net.Dialer
	if d != nil {
		dialer = *d
	}
	dialer.SetMultipathTCP(false)
	if err := literal(address); err != nil {
		return nil, fmt.Errorf("connect to %s from node %s: %w", address, n.name, err)
	}
	var conn net.Conn
	err := n.do(func() (err error) {
		conn, err = dialer.DialContext(ctx, network, address)
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return nil, fmt.Errorf("connect to %s from node %s: %w", address, n.name, err)
	}
	return conn, nil
}

// literal checks that the host of an address needs no look-up.
func literal(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return err //nolint:wrapcheck // the callers name the address
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return fmt.Errorf("host must be an IP address: %w", err)
	}
	return nil
}

// Start starts cmd in the node; the caller waits for it. It is killed (SIGKILL,
// unless SysProcAttr.Pdeathsig says otherwise) when this process ends in any way
// or the lab is closed. Only the network is the node's: files are this
// process's.
func (n *Node) Start(cmd *exec.Cmd) error {
	if err := n.spawner.start(n.namespace, cmd); err != nil {
		return fmt.Errorf("start %s in node %s: %w", cmd.Path, n.name, err)
	}
	return nil
}

// ReadFile reads a file as a thread inside the node sees it; below
// /proc/thread-self/net and /proc/sys/net that is the node's state.
func (n *Node) ReadFile(path string) ([]byte, error) {
	var data []byte
	err := n.do(func() (err error) {
		data, err = os.ReadFile(path)
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return nil, fmt.Errorf("read %s in node %s: %w", path, n.name, err)
	}
	return data, nil
}

// Sysctl reads a sysctl of the node, such as "net.ipv4.tcp_mtu_probing". The
// error is a *SysctlError.
func (n *Node) Sysctl(key string) (string, error) {
	var value string
	err := n.do(func() (err error) {
		value, err = readSysctl(key)
		return err
	})
	if err != nil {
		return "", &SysctlError{Node: n.name, Key: key, Err: err}
	}
	return value, nil
}

// SetSysctl writes a sysctl of the node; only net.* is allowed, and a kernel may
// keep some of these for the whole machine and out of namespaces. The error is a
// *SysctlError.
func (n *Node) SetSysctl(key, value string) error {
	if err := n.do(func() error { return writeSysctl(key, value) }); err != nil {
		return &SysctlError{Node: n.name, Key: key, Err: err}
	}
	return nil
}

// Services is the IP Virtual Server of a node that has virtual services, nil for
// others. It is the node's: do not close it.
func (n *Node) Services() *ipvs.Handle { return n.services }

// Sidecar is the sidecar of a node that has one, nil for others. Stopping it is
// allowed, and ends the redirect with it.
func (n *Node) Sidecar() *sidecar.Process { return n.sidecar }
