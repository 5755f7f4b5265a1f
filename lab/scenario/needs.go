package scenario

import (
	"github.com/pmtulab/pmtulab/lab"
	"github.com/pmtulab/pmtulab/lab/evidence"
)

// Needs lists what a run of s needs of the machine: its network, and the
// evidence.
func (s Scenario) Needs() []lab.Need {
	return append(lab.Needs(s.Topology), evidence.Needs()...)
}
