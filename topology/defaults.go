// Defaults: what a Spec leaves out, filled in the same way in every run.

package topology

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"net"
	"reflect"
	"slices"
	"strings"
	"time"
)

// The defaults that WithDefaults fills in.
const (
	// DefaultMTU is the MTU of an Ethernet interface, bytes (RFC 894).
	DefaultMTU = 1500
	// MainTable is the routing table that a route is in by default (RT_TABLE_MAIN).
	MainTable = 254
	// DefaultSidecarPort and DefaultSidecarUID are those of Istio's Envoy.
	DefaultSidecarPort = 15001
	DefaultSidecarUID  = 1337
	// DefaultConnectTimeout is the sidecar's for upstream connections.
	DefaultConnectTimeout = 10 * time.Second
)

// WithDefaults is a deep copy of s with every default filled in; s is not
// changed and shares nothing with the copy. It may be called on a Spec that is
// not valid, and a second time without effect.
func (s Spec) WithDefaults() Spec {
	s = s.clone()
	s.nameInterfaces()
	for _, end := range s.ends() {
		orDefault(&end.MTU, DefaultMTU)
		orDefault(&end.MAC, defaultMAC(s.Name, end.Node, end.Name))
	}
	for i := range s.Nodes {
		s.Nodes[i].fillDefaults()
	}
	return s
}

func (n *Node) fillDefaults() {
	for i := range n.Tunnels {
		orDefault(&n.Tunnels[i].Mode, IPIP)
	}
	for i := range n.Routes {
		orDefault(&n.Routes[i].Table, MainTable)
	}
	for i := range n.Services {
		service := &n.Services[i]
		orDefault(&service.Protocol, "tcp")
		orDefault(&service.Scheduler, "rr")
		for j := range service.RealServers {
			real := &service.RealServers[j]
			orDefault(&real.Port, service.Port)
			if real.Weight == nil {
				real.Weight = new(1)
			}
		}
	}
	if n.Sidecar != nil {
		orDefault(&n.Sidecar.Port, DefaultSidecarPort)
		orDefault(&n.Sidecar.UID, DefaultSidecarUID)
		orDefault(&n.Sidecar.ConnectTimeout, DefaultConnectTimeout)
	}
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// nameInterfaces gives unnamed ends the lowest ethN that is free in their node,
// links before segments, in the order of the Spec.
func (s *Spec) nameInterfaces() {
	type device struct{ node, name string }
	taken := map[device]bool{}
	for _, n := range s.Nodes {
		for _, t := range n.Tunnels {
			taken[device{n.Name, t.Name}] = true
		}
	}
	for _, end := range s.ends() {
		taken[device{end.Node, end.Name}] = true
	}
	next := map[string]int{}
	for _, end := range s.ends() {
		for end.Name == "" {
			name := fmt.Sprintf("eth%d", next[end.Node])
			if next[end.Node]++; !taken[device{end.Node, name}] {
				end.Name = name
			}
		}
	}
}

// ends are all ends of veth pairs in nodes, links before segments.
func (s *Spec) ends() []*End {
	var ends []*End
	for i := range s.Links {
		ends = append(ends, &s.Links[i].Ends[0], &s.Links[i].Ends[1])
	}
	for i := range s.Segments {
		for j := range s.Segments[i].Ports {
			ends = append(ends, &s.Segments[i].Ports[j])
		}
	}
	return ends
}

// defaultMAC is a locally administered unicast address (IEEE 802: bit 1 of the
// first byte set, bit 0 clear) made of the first 6 bytes of the SHA-256 of
// "topology/node/interface". The same names give the same address, so captures
// of two runs can be compared.
func defaultMAC(topology, node, name string) string {
	sum := sha256.Sum256([]byte(topology + "/" + node + "/" + name))
	mac := net.HardwareAddr(sum[:6])
	mac[0] = mac[0]&^1 | 2
	return mac.String()
}

// writtenZeros finds values that the document has as 0 or "" at prefix, and for
// which a default would be filled in silently.
func (d *Document) writtenZeros(s Spec, prefix string) Problems {
	var problems Problems
	places := d.places()
	var compare func(written, filled reflect.Value, path string)
	compare = func(written, filled reflect.Value, path string) {
		if zero, single := text(written); single {
			_, there := places[prefix+strings.TrimPrefix(path, "$")]
			if value, _ := text(filled); there && written.IsZero() && !filled.IsZero() {
				problems = append(problems, Problem{
					Path: path, What: fmt.Sprintf("%s: %s is not allowed", last(path), cmp.Or(zero, `""`)),
					Remedy: "leave it out for the default, " + value,
				})
			}
			return
		}
		switch written.Kind() {
		case reflect.Struct:
			for i := range written.NumField() {
				compare(written.Field(i), filled.Field(i), child(path, yamlKey(written.Type().Field(i))))
			}
		case reflect.Slice, reflect.Array:
			for i := range written.Len() {
				compare(written.Index(i), filled.Index(i), item(path, i))
			}
		case reflect.Pointer:
			if !written.IsNil() {
				compare(written.Elem(), filled.Elem(), path)
			}
		default: // maps have no defaults
		}
	}
	compare(reflect.ValueOf(s), reflect.ValueOf(s.WithDefaults()), "$")
	return problems
}

// clone is a deep copy of s.
func (s Spec) clone() Spec {
	s.Nodes = slices.Clone(s.Nodes)
	for i := range s.Nodes {
		n := &s.Nodes[i]
		n.Sysctls = maps.Clone(n.Sysctls)
		n.Loopback = slices.Clone(n.Loopback)
		n.Tunnels = slices.Clone(n.Tunnels)
		for j := range n.Tunnels {
			n.Tunnels[j].Addresses = slices.Clone(n.Tunnels[j].Addresses)
		}
		n.Routes = slices.Clone(n.Routes)
		n.Services = slices.Clone(n.Services)
		for j := range n.Services {
			reals := slices.Clone(n.Services[j].RealServers)
			for k := range reals {
				if reals[k].Weight != nil {
					reals[k].Weight = new(*reals[k].Weight)
				}
			}
			n.Services[j].RealServers = reals
		}
		if n.Sidecar != nil {
			n.Sidecar = new(*n.Sidecar)
		}
	}
	s.Links = slices.Clone(s.Links)
	s.Segments = slices.Clone(s.Segments)
	for i := range s.Segments {
		s.Segments[i].Ports = slices.Clone(s.Segments[i].Ports)
	}
	for _, end := range s.ends() {
		end.Addresses = slices.Clone(end.Addresses)
	}
	return s
}
