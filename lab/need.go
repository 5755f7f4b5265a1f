//go:build linux

// This file says what a lab needs of the machine, and finds out by use what is
// there. Finding out never makes the kernel load a module.

package lab

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"time"

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
	// Name is the capability in one word, as in Need.
	Name string
	// Capability is what is missing, as a noun phrase.
	Capability string
	// Remedy is what a user can do about it: a command, or an imperative
	// sentence.
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

// UntriedError says why a capability was not tried: whether it is there shows
// when it is used.
type UntriedError struct{ Why string }

// Error is the reason.
func (e *UntriedError) Error() string { return "not tried: " + e.Why }

// Need is something that a lab, or what observes it, needs of the machine.
type Need struct {
	// Name is one word: a label of specs, and what PMTULAB_REQUIRE lists.
	Name string
	// What is a noun phrase.
	What string
	// Remedy is a command, or an imperative sentence.
	Remedy string
	// Modules are those that Try would have the kernel load; where it would,
	// nothing is tried.
	Modules []string
	// Passive tells that Try changes nothing, so that it may be given a node
	// that is the host itself.
	Passive bool
	// Try finds out by use, in a node without links. found is what was found,
	// if there is more to say than that it is there. Nil is the need of such
	// a node itself.
	Try func(*Node) (found string, err error)
}

// Capability is a Need and what trying told.
type Capability struct {
	Need
	// Found is what was found, where that says more than that it is there.
	Found string
	// Err is nil when it is there, a *MissingError when it is not, and an
	// *UntriedError when that is not known.
	Err error
}

// Needs lists what bringing up spec needs. Schedulers are left out.
func Needs(spec topology.Spec) []Need {
	needs := []Need{{Name: "netns", What: "the right to create network namespaces", Remedy: "run as root (CAP_SYS_ADMIN), or run in a guest"}}
	if len(spec.Links)+len(spec.Segments) > 0 {
		needs = append(needs, Need{Name: "veth", What: "link kind veth", Modules: []string{"veth"}, Try: func(n *Node) (string, error) {
			return "", addVeth(vethEnd{net: n.network, name: "a", mtu: 1500}, vethEnd{net: n.network, name: "b", mtu: 1500})
		}})
	}
	if len(spec.Segments) > 0 {
		needs = append(needs, Need{Name: "bridge", What: "link kind bridge", Modules: []string{"bridge"}, Try: func(n *Node) (string, error) {
			return "", addBridge(n.network)
		}})
	}
	var kinds []string
	var services, sidecars bool
	for _, n := range spec.Nodes {
		for _, t := range n.Tunnels {
			kinds = append(kinds, string(t.Mode))
		}
		services = services || len(n.Services) > 0
		sidecars = sidecars || n.Sidecar != nil
	}
	slices.Sort(kinds)
	for _, kind := range slices.Compact(kinds) {
		needs = append(needs, Need{Name: kind, What: "link kind " + kind, Passive: true, Try: func(n *Node) (string, error) {
			return "", n.requireKind(kind)
		}})
	}
	if services {
		needs = append(needs, Need{Name: "ipvs", What: "IPVS", Passive: true, Try: func(n *Node) (string, error) {
			h, err := ipvs.Open(n.Do)
			if err != nil {
				return "", missingIPVS(err)
			}
			return "", h.Close()
		}})
	}
	if sidecars {
		needs = append(needs, Need{Name: "redirect", What: redirectWhat, Try: tryRedirect})
	}
	return needs
}

// Try tries needs, in a namespace of its own, in a few milliseconds.
func Try(needs ...Need) []Capability {
	modules := hostModules()
	n, release, err := probeNode()
	defer release()
	out := make([]Capability, len(needs))
	for i, need := range needs {
		c := &out[i]
		c.Need = need
		switch loads := modules.firstLoaded(need.Modules...); {
		case need.Try == nil:
			c.Err = err
		case n == nil || err != nil && !need.Passive:
			c.Err = &UntriedError{"there is no network namespace to try it in"}
		case loads != nil:
			c.Err = loads
		default:
			c.Found, c.Err = need.Try(n)
		}
		c.Err = need.missing(c.Err)
	}
	return out
}

// missing makes every failure of a trial a *MissingError.
func (need Need) missing(err error) error {
	var missing *MissingError
	var untried *UntriedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &untried):
		return untried
	case errors.As(err, &missing):
		return missing
	default:
		return &MissingError{Name: need.Name, Capability: need.What, Remedy: need.Remedy, Err: err}
	}
}

// probeNode makes the node in which needs are tried. Where err says that there
// can be none, it is the host itself, for passive trials, or nil.
func probeNode() (n *Node, release func(), err error) {
	home, err := openHome()
	if err != nil {
		return nil, func() {}, fmt.Errorf("probe: %w", err)
	}
	probe := &Node{spawner: newSpawner()}
	release = func() {
		probe.spawner.close()
		_ = probe.close() // nothing in it could be lost
		_ = unix.Close(home)
	}
	if probe.network, err = newNetwork(home, "probe", fresh{}, nil, nil); err == nil {
		return probe, release, nil
	}
	own, openErr := openHome()
	probe.network = &network{namespace: &namespace{fd: own, home: own}, name: "this host", ethtool: -1}
	if openErr != nil || probe.open() != nil {
		return nil, release, err
	}
	return probe, release, err
}

// Missing joins the errors of the capabilities that are missing; nil when none
// is.
func Missing(capabilities []Capability) error {
	var errs []error
	for _, c := range capabilities {
		var untried *UntriedError
		if c.Err != nil && !errors.As(c.Err, &untried) {
			errs = append(errs, c.Err)
		}
	}
	return errors.Join(errs...)
}

// Probe tells whether this machine can bring up a Spec, and returns nil or one
// *MissingError for each thing that it lacks, joined. Schedulers are not tried.
func Probe(spec topology.Spec) error { return Missing(Try(Needs(spec)...)) }

// missingKind is the error for a kind of link that the kernel does not know.
func missingKind(kind string, err error) *MissingError {
	remedy := hostModules().remedy(kind)
	if kind == "ipip" && remedy == "modprobe ipip" {
		remedy += " (ipip puts tunl0 into every namespace, the host's included)"
	}
	return &MissingError{Name: kind, Capability: "link kind " + kind, Remedy: remedy, Err: err}
}

// missingIPVS turns the answer of ipvs.Open into a MissingError where it is one.
func missingIPVS(err error) error {
	if errors.Is(err, ipvs.ErrNotSupported) {
		return &MissingError{Name: "ipvs", Capability: "IPVS", Remedy: hostModules().remedy("ip_vs"), Err: ipvs.ErrNotSupported}
	}
	return err
}

// redirectWhat is the capability that a sidecar needs.
const redirectWhat = "a way to redirect TCP (nftables NAT, or iptables-legacy)"

// tryRedirect makes a sidecar's redirect and takes it away.
func tryRedirect(n *Node) (found string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	with, err := sidecar.Probe(ctx, sidecar.Namespace{Do: n.Do, Start: n.Start}, hostModules().firstLoaded)
	return string(with), missingRedirect(err)
}

// missingRedirect turns the answer of sidecar.Start into a MissingError where it
// is one.
func missingRedirect(err error) error {
	if !errors.Is(err, sidecar.ErrNoRedirect) {
		return err
	}
	remedy := "run on a kernel with NAT for IPv4 in nftables or ip_tables, or in a guest"
	if errors.Is(err, exec.ErrNotFound) {
		remedy = "apt-get install iptables"
	}
	return &MissingError{Name: "redirect", Capability: redirectWhat, Remedy: remedy, Err: err}
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
