package report

import (
	"io"
	"testing"

	"github.com/pmtulab/pmtulab/lab/record"
)

func TestSurvey(t *testing.T) {
	host := record.Place{Name: "host", Kernel: "6.1.0", Capabilities: []record.Capability{
		{Name: "netns", What: "the right to create network namespaces", State: record.CapabilityThere},
		{Name: "veth", What: "link kind veth", State: record.CapabilityUntried, Detail: "the kernel will load its module veth at first use"},
		{Name: "ipip", What: "link kind ipip", State: record.CapabilityMissing, Remedy: "modprobe ipip (ipip puts tunl0 into every namespace, the host's included)"},
		{Name: "ipvs", What: "IPVS", State: record.CapabilityMissing, Detail: "the kernel has no IP Virtual Server (genetlink family IPVS)", Remedy: "modprobe ip_vs"},
	}}
	uml := record.Place{Name: "uml", Kernel: "6.1.176", Usable: true, Capabilities: []record.Capability{
		{Name: "linux.uml", What: "linux.uml", State: record.CapabilityThere, Detail: "/usr/bin/linux.uml"},
	}}
	gone := record.Place{Name: "uml", Capabilities: []record.Capability{
		{Name: "linux.uml", What: "linux.uml", State: record.CapabilityMissing, Detail: "find linux.uml on PATH and in /usr/bin", Remedy: "apt-get install user-mode-linux"},
	}}
	for name, s := range map[string]record.Survey{
		"survey":         {Scenario: "report", Places: []record.Place{host, uml}, Auto: "uml", Reason: "this host has no link kind ipip, no IPVS"},
		"survey-nowhere": {Scenario: "report", Places: []record.Place{host, gone}, Reason: "this host has no link kind ipip, no IPVS; User-Mode Linux has no linux.uml"},
	} {
		t.Run(name, func(t *testing.T) {
			text(t, name, func(w io.Writer, style Style) error { return Survey(w, s, style) })
		})
	}
}
