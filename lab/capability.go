//go:build linux

// This file names what a kernel or process lacks, and finds out by use. Probing
// never makes the kernel load a module whose effect reaches beyond the lab.

package lab

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab/ipvs"
	"github.com/pmtulab/pmtulab/lab/sidecar"
	"github.com/pmtulab/pmtulab/topology"
)

// MissingError says that this machine cannot bring up a Spec, and what would
// help. A caller tells it from a failure of the lab with errors.As and turns it
// into the verdict "unsupported".
type MissingError struct {
	// Capability is what is missing, as a noun phrase.
	Capability string
	// Remedy is what a user can do about it, as an imperative sentence.
	Remedy string
	// Err is the kernel's own answer, if there was one.
	Err error
}

// Error names the capability, the kernel's answer and the remedy.
func (e *MissingError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("missing %s; remedy: %s", e.Capability, e.Remedy)
	}
	return fmt.Sprintf("missing %s: %v; remedy: %s", e.Capability, e.Err, e.Remedy)
}

// Unwrap returns the kernel's own answer.
func (e *MissingError) Unwrap() error { return e.Err }

// Probe tells whether this machine can bring up a Spec, and returns nil or one
// *MissingError for each thing that it lacks, joined. It tries in a namespace of
// its own, in a few milliseconds. Schedulers and sidecars are not tried.
func Probe(spec topology.Spec) error {
	home, err := openHome()
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	defer unix.Close(home)
	n, err := newNetwork(home, "probe", fresh{}, nil, nil)
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	var errs []error
	if len(spec.Links)+len(spec.Segments) > 0 {
		errs = append(errs, addVeth(vethEnd{net: n, name: "a", mtu: 1500}, vethEnd{net: n, name: "b", mtu: 1500}))
	}
	if len(spec.Segments) > 0 {
		errs = append(errs, addBridge(n))
	}
	if slices.ContainsFunc(spec.Nodes, func(n topology.Node) bool { return len(n.Tunnels) > 0 }) {
		errs = append(errs, n.requireKind("ipip"))
	}
	if slices.ContainsFunc(spec.Nodes, func(n topology.Node) bool { return len(n.Services) > 0 }) {
		h, err := ipvs.Open(n.do)
		if err == nil {
			err = h.Close()
		}
		errs = append(errs, missingIPVS(err))
	}
	return errors.Join(append(errs, n.close())...)
}

// missingKind is the error for a kind of link that the kernel does not know.
func missingKind(kind string, err error) *MissingError {
	e := &MissingError{
		Capability: "link kind " + kind,
		Remedy:     fmt.Sprintf("load the kernel module %s, or run in a guest", kind),
		Err:        err,
	}
	if kind == "ipip" {
		e.Remedy = "load the kernel module ipip (tunl0 then appears in every namespace, the host's included), or run in a guest"
	}
	return e
}

// missingIPVS turns the answer of ipvs.Open into a MissingError where it is one.
func missingIPVS(err error) error {
	if errors.Is(err, ipvs.ErrNotSupported) {
		return &MissingError{
			Capability: "IPVS",
			Remedy:     "load the kernel module ip_vs, or run in a guest",
			Err:        err,
		}
	}
	return err
}

// missingRedirect turns the answer of sidecar.Start into a MissingError where it
// is one.
func missingRedirect(err error) error {
	if errors.Is(err, sidecar.ErrNoRedirect) {
		return &MissingError{
			Capability: "a way to redirect TCP (nftables NAT, or iptables-legacy)",
			Remedy:     "install the Debian package iptables, or run on a kernel with nftables NAT for IPv4",
			Err:        err,
		}
	}
	return err
}

// requireKind returns a MissingError when the kernel does not know a kind of link,
// without loading its module.
func (n *network) requireKind(kind string) error {
	known, err := n.knowsKind(kind)
	if err == nil && !known {
		return missingKind(kind, nil)
	}
	return err
}

// knowsKind tells whether the kernel knows a kind of link, without loading its
// module, as an attempt to create one would. It dumps the links of that kind:
// the kernel ignores the filter when it does not know the kind
// (link_kind_filtered, net/core/rtnetlink.c), and then lo is among them.
func (n *network) knowsKind(kind string) (bool, error) {
	req := n.request(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated(kind))
	req.AddData(info)
	links, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if err != nil {
		return false, fmt.Errorf("ask for link kind %s: %w", kind, err)
	}
	for _, l := range links {
		if nl.DeserializeIfInfomsg(l).Flags&unix.IFF_LOOPBACK != 0 {
			return false, nil
		}
	}
	return true, nil
}
