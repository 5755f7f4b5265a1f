package record

// SurveySchema names the JSON form of Survey.
const SurveySchema = "pmtulab/survey/v1"

// Survey is what a machine can and cannot run.
type Survey struct {
	Schema string `json:"schema"`
	// Scenario is what was asked for.
	Scenario string `json:"scenario"`
	// Places are where a run can happen, in the order in which they are
	// considered.
	Places []Place `json:"places"`
	// Auto is the name of the place that would be chosen, empty when none can
	// serve, and Reason says why.
	Auto   string `json:"auto"`
	Reason string `json:"reason"`
}

// Place is somewhere that a run can happen, and what it needs there.
type Place struct {
	// Name is host, uml or qemu, as in Runtime.On.
	Name string `json:"name"`
	// Kernel is the release of the kernel there; empty when there is none.
	Kernel string `json:"kernel,omitempty"`
	// Usable tells that nothing is missing.
	Usable       bool         `json:"usable"`
	Capabilities []Capability `json:"capabilities"`
	// Took is how long looking took.
	Took Ms `json:"took_ms"`
}

// Capability is something that a run needs at a place.
type Capability struct {
	// Name is one word, What a noun phrase.
	Name  string          `json:"name"`
	What  string          `json:"what"`
	State CapabilityState `json:"state"`
	// Detail is what was found, or why it is missing or was not tried.
	Detail string `json:"detail,omitempty"`
	// Remedy is what to do when it is missing: a command or a sentence.
	Remedy string `json:"remedy,omitempty"`
}

// CapabilityState tells whether a capability is there.
type CapabilityState string

const (
	// CapabilityThere: it was used.
	CapabilityThere CapabilityState = "there"
	// CapabilityMissing: it was tried, and is not there.
	CapabilityMissing CapabilityState = "missing"
	// CapabilityUntried: trying it would have changed the machine, or needs
	// another capability that is missing.
	CapabilityUntried CapabilityState = "untried"
)
