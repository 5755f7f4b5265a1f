// How long PMTU exceptions live: net.ipv4.route.mtu_expires, which became a
// namespace's own in Linux 6.1 (net/ipv4/route.c), and its IPv6 sibling.

package scenario

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/pmtulab/pmtulab/lab"
	"github.com/pmtulab/pmtulab/lab/record"
)

const (
	mtuExpires   = "net.ipv4.route.mtu_expires"
	mtuExpiresV6 = "net.ipv6.route.mtu_expires"
)

// lifetimes sets the lifetime that the scenario wants in every node that makes
// connections, and reads what is in force there.
func (r *run) lifetimes() ([]record.Lifetime, error) {
	var out []record.Lifetime
	for _, n := range r.lab.Nodes() {
		if !r.connects(n.Name()) {
			continue
		}
		l := record.Lifetime{Node: n.Name()}
		_, err := n.Sysctl(mtuExpires)
		l.Global = errors.Is(err, fs.ErrNotExist)
		if err := r.setLifetime(n, l.Global); err != nil {
			return nil, err
		}
		if l.Global {
			l.IPv4S = seconds(machineSysctl(mtuExpires))
		} else {
			l.IPv4S = seconds(n.Sysctl(mtuExpires))
		}
		l.IPv6S = seconds(n.Sysctl(mtuExpiresV6))
		out = append(out, l)
	}
	return out, nil
}

// connects tells whether a connection of the scenario starts in a node.
func (r *run) connects(node string) bool {
	return find(r.scenario.Connections, func(c Connection) bool { return c.From == node }) != nil
}

func (r *run) setLifetime(n *lab.Node, global bool) error {
	if r.scenario.MTUExpires == 0 {
		return nil
	}
	value := strconv.Itoa(int(r.scenario.MTUExpires / time.Second))
	switch {
	case !global:
		if err := n.SetSysctl(mtuExpires, value); err != nil {
			return fmt.Errorf("set the lifetime of exceptions: %w", err)
		}
		return nil
	case !r.options.OwnMachine:
		need := lifetimeNeed()
		return &lab.MissingError{Name: need.Name, Capability: need.What, Remedy: need.Remedy}
	default:
		before, err := machineSysctl(mtuExpires)
		if err == nil {
			err = os.WriteFile(machinePath(mtuExpires), []byte(value), 0)
		}
		if err != nil {
			return fmt.Errorf("set the lifetime of exceptions for the machine: %w", err)
		}
		r.machineLifetime = cmp.Or(r.machineLifetime, before)
		return nil
	}
}

// resetLifetime gives the machine the lifetime back that it had before this run:
// another one may follow.
func (r *run) resetLifetime() error {
	if r.machineLifetime == "" {
		return nil
	}
	if err := os.WriteFile(machinePath(mtuExpires), []byte(r.machineLifetime), 0); err != nil {
		return fmt.Errorf("give the machine its lifetime of exceptions back: %w", err)
	}
	return nil
}

// lifetimeNeed is what a scenario that sets the lifetime needs of the host.
func lifetimeNeed() lab.Need {
	return lab.Need{
		Name: "mtu-expires", What: mtuExpires + " in a network namespace (Linux 6.1 has it)",
		Remedy: "run in a guest, whose machine-wide value can be changed",
		Try: func(n *lab.Node) (string, error) {
			_, err := n.Sysctl(mtuExpires)
			return "", err //nolint:wrapcheck // names the sysctl
		},
	}
}

func machinePath(key string) string { return "/proc/sys/" + strings.ReplaceAll(key, ".", "/") }

// machineSysctl reads a sysctl of the process's own namespace.
func machineSysctl(key string) (string, error) {
	b, err := os.ReadFile(machinePath(key))
	return strings.TrimSpace(string(b)), err
}

// seconds is a sysctl's value, -1 when there is none.
func seconds(text string, err error) int {
	n, parseErr := strconv.Atoi(text)
	if err != nil || parseErr != nil {
		return -1
	}
	return n
}
