package main

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pmtulab/pmtulab/lab"
	"github.com/pmtulab/pmtulab/lab/record"
)

// The first place where nothing is missing is taken, and the reason is what the
// ones before it lack. What was not tried is no obstacle.
func TestAuto(t *testing.T) {
	there := lab.Capability{Need: lab.Need{Name: "netns"}}
	untried := lab.Capability{Need: lab.Need{Name: "veth"}, Err: &lab.UntriedError{Why: "it loads a module"}}
	missing := lab.Capability{Need: lab.Need{Name: "ipvs"}, Err: &lab.MissingError{Name: "ipvs", Capability: "IPVS"}}
	broken := lab.Capability{Need: lab.Need{Name: "x"}, Err: &lab.MissingError{Name: "x", Capability: "the right to x", Err: errors.New("EPERM")}}
	at := func(name string, found ...lab.Capability) look {
		return look{place: place{name: name, title: "place " + name}, capabilities: found}
	}
	for _, c := range []struct {
		looks  []look
		chosen string
		reason string
	}{
		{[]look{at("a", there, untried), at("b", there)}, "a", "place a has what the lab needs"},
		{[]look{at("a", there, missing, broken), at("b", untried)}, "b", "place a has no IPVS, no right to x"},
		{[]look{at("a", missing), at("b", broken)}, "", "place a has no IPVS; place b has no right to x"},
	} {
		chosen, reason, ok := auto(c.looks)
		if chosen.name != c.chosen || reason != c.reason || ok != (c.chosen != "") {
			t.Errorf("chose %q because %q, want %q because %q", chosen.name, reason, c.chosen, c.reason)
		}
	}
}

func TestLookRecord(t *testing.T) {
	l := look{place: place{name: "a", kernel: func() string { return "6.1" }}, capabilities: []lab.Capability{
		{Need: lab.Need{Name: "redirect", What: "a redirect"}, Found: "nftables"},
		{Need: lab.Need{Name: "veth", What: "veth"}, Err: &lab.UntriedError{Why: "it loads a module"}},
		{Need: lab.Need{Name: "ipvs", What: "IPVS"}, Err: &lab.MissingError{Capability: "IPVS", Remedy: "modprobe ip_vs", Err: errors.New("no such family")}},
	}}
	want := record.Place{Name: "a", Kernel: "6.1", Capabilities: []record.Capability{
		{Name: "redirect", What: "a redirect", State: record.CapabilityThere, Detail: "nftables"},
		{Name: "veth", What: "veth", State: record.CapabilityUntried, Detail: "it loads a module"},
		{Name: "ipvs", What: "IPVS", State: record.CapabilityMissing, Detail: "no such family", Remedy: "modprobe ip_vs"},
	}}
	if diff := cmp.Diff(want, l.record()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
