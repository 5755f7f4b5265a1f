package scenario

import (
	"io"
	"net/netip"

	"github.com/pmtulab/pmtulab/lab/evidence"
	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/topology"
)

// observation is what to observe, and whether to keep the packets themselves.
func (r *run) observation() evidence.Config {
	c := evidence.Config{Nodes: observed(r.lab), Origin: r.started, Functions: true}
	if r.options.Capture != nil {
		c.SnapLength, c.HeadersOnly = snapLength(r.result.Links), r.options.Redact
	}
	return c
}

// snapLength is that of the longest frame on any wire. Only lo has longer ones,
// which are on some wire as well, in segments. Where offloads let segments
// travel as one packet, it is more than the largest request on the wire.
func snapLength(links []record.Link) int {
	const ethernet, aggregate = 14, 16 << 10
	longest := 1500
	for _, l := range links {
		longest = max(longest, l.MTU)
		if o := l.Offloads; o["tcp-segmentation-offload"] || o["generic-segmentation-offload"] || o["generic-receive-offload"] {
			return aggregate
		}
	}
	return ethernet + longest
}

// keyLog takes the secrets of TLS connections, when there is a capture that
// they decrypt.
func (r *run) keyLog() io.Writer {
	if r.options.Capture == nil || r.options.Redact {
		return nil
	}
	return &r.secrets
}

// names are what the addresses of the network are called: by the node, but
// those of virtual services, which several nodes hold, "vip".
func names(s topology.Spec) map[netip.Addr]string {
	out := map[netip.Addr]string{}
	give := func(name string, prefixes []netip.Prefix) {
		for _, p := range prefixes {
			out[p.Addr()] = name
		}
	}
	for _, n := range s.Nodes {
		give(n.Name, n.Loopback)
		for _, t := range n.Tunnels {
			give(n.Name, t.Addresses)
		}
	}
	for _, l := range s.Links {
		for _, e := range l.Ends {
			give(e.Node, e.Addresses)
		}
	}
	for _, segment := range s.Segments {
		for _, e := range segment.Ports {
			give(e.Node, e.Addresses)
		}
	}
	for _, n := range s.Nodes {
		for _, service := range n.Services {
			out[service.Address] = "vip"
		}
	}
	return out
}
