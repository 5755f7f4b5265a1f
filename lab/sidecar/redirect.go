//go:build linux

// The redirect of outbound TCP to the proxy, and which machinery does it.

package sidecar

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// Namespace is the network namespace that a sidecar serves.
type Namespace struct {
	// Do runs f with the calling thread in the namespace.
	Do func(f func() error) error
	// Start starts cmd in the namespace.
	Start func(cmd *exec.Cmd) error
}

// Machinery is what a redirect is made with.
type Machinery string

const (
	// Nftables: a NAT chain of nf_tables, set up by netlink.
	Nftables Machinery = "nftables"
	// IptablesLegacy: ip_tables, set up by one run of iptables-legacy-restore,
	// for kernels whose nf_tables has no IPv4 NAT (User-Mode Linux).
	IptablesLegacy Machinery = "iptables-legacy"
)

// ErrRedirectExists says that the namespace has a sidecar's redirect already.
var ErrRedirectExists = errors.New("a sidecar's redirect is there already (one sidecar for each node)")

// ErrNoRedirect says that this machine has no way to redirect TCP: neither
// nftables NAT nor iptables-legacy.
var ErrNoRedirect = errors.New("no way to redirect TCP")

// redirect sends outbound TCP of a namespace to port. Exempt are, as in Istio's
// chain ISTIO_OUTPUT: what leaves by lo, the proxy's own connections, known by
// their user, and destinations in 127.0.0.0/8.
type redirect struct {
	port uint16
	uid  int
	with Machinery
}

// install makes the redirect in ns. After an error nothing of it is there.
func (r *redirect) install(ctx context.Context, ns Namespace) error {
	err := ns.Do(r.installNftables)
	if err == nil {
		r.with = Nftables
		return nil
	}
	lack := nftablesLack(err)
	if lack == nil {
		return fmt.Errorf("redirect outbound TCP to port %d with nftables: %w", r.port, err)
	}
	if err := restore(ctx, ns, r.iptablesInstall()); err != nil {
		return fmt.Errorf("redirect outbound TCP to port %d with %s (nftables has no NAT for IPv4 here: %w): %w",
			r.port, IptablesLegacy, lack, err)
	}
	r.with = IptablesLegacy
	return nil
}

// Probe tells by use with which machinery a redirect can be made in ns, and
// takes it away again. allow is asked before each is tried, with the modules
// that the kernel may load for it; its error ends the probe. The error wraps
// ErrNoRedirect when there is no way.
func Probe(ctx context.Context, ns Namespace, allow func(modules ...string) error) (Machinery, error) {
	r := &redirect{port: 1, with: Nftables}
	if err := allow(nftablesModules()...); err != nil {
		return "", err
	}
	if err := ns.Do(r.installNftables); nftablesLack(err) != nil {
		r.with = IptablesLegacy
		if _, err := findRestore(); err != nil {
			return "", err
		}
		if err := allow(iptablesModules()...); err != nil {
			return "", err
		}
		if err := restore(ctx, ns, r.iptablesInstall()); err != nil {
			return "", err
		}
	} else if err != nil {
		return "", fmt.Errorf("try a redirect with nftables: %w", err)
	}
	return r.with, r.remove(ctx, ns)
}

// remove takes the redirect away, and nothing else. It does nothing when there
// is none.
func (r *redirect) remove(ctx context.Context, ns Namespace) error {
	var err error
	switch r.with {
	case Nftables:
		err = ns.Do(removeNftables)
	case IptablesLegacy:
		err = restore(ctx, ns, iptablesRemove())
	}
	if err != nil {
		return fmt.Errorf("remove the redirect to port %d with %s: %w", r.port, r.with, err)
	}
	return nil
}

// nftablesLack tells a kernel that cannot from a redirect that failed: it
// returns the error number in err that says so, or nil. A part that is missing
// shows as any of these, by where the kernel notices: the netlink family, the
// table's family, the chain type, an expression.
func nftablesLack(err error) error {
	for _, lack := range []syscall.Errno{unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.EOPNOTSUPP, unix.ENOENT} {
		if errors.Is(err, lack) {
			return lack
		}
	}
	return nil
}
