package scenario

import (
	"github.com/pmtulab/pmtulab/lab"
	"github.com/pmtulab/pmtulab/lab/evidence"
)

// Needs lists what a run of s needs of the machine: its network, the evidence,
// and the sysctl of the lifetime that it sets.
func (s Scenario) Needs() []lab.Need {
	needs := append(lab.Needs(s.Topology), evidence.Needs()...)
	if s.MTUExpires != 0 {
		needs = append(needs, lifetimeNeed())
	}
	return needs
}
