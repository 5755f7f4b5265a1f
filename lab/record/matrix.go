package record

import "time"

// MatrixSchema names the JSON form of Matrix.
const MatrixSchema = "pmtulab/matrix/v1"

// Matrix is what came of scenarios on several kernels, or of a shard of them.
type Matrix struct {
	Schema string `json:"schema"`
	// Shard is "I/N" for the I-th of N parts, empty for all.
	Shard string `json:"shard,omitempty"`
	// Size counts the cells of the whole matrix, those of other shards included.
	Size     int       `json:"size"`
	Started  time.Time `json:"started"`
	Duration Ms        `json:"duration_ms"`
	// Verdict is the worst of the cells'; one that no kernel could run has failed.
	Verdict Verdict `json:"verdict"`
	// Cells are in the order of Index. Those that were not run are left out.
	Cells []Cell `json:"cells"`
}

// Cell is one scenario on one kernel, with at most one mitigation.
type Cell struct {
	// Index counts from 0 over the whole matrix.
	Index    int    `json:"index"`
	Scenario string `json:"scenario"`
	// Kernel is the reference that was asked for.
	Kernel string `json:"kernel"`
	// With is the mitigation; Live tells that it was made while connections
	// were open.
	With string `json:"with,omitempty"`
	Live bool   `json:"live,omitempty"`
	// Reproduce is the command that runs this cell alone.
	Reproduce string `json:"reproduce"`
	// Directory holds the cell's result.json, relative to the matrix's own.
	Directory string `json:"directory,omitempty"`

	Verdict Verdict  `json:"verdict"`
	Reasons []string `json:"reasons,omitempty"`
	// Duration is that of the whole command, boot included.
	Duration Ms            `json:"duration_ms"`
	Runtime  Runtime       `json:"runtime"`
	Requests []CellRequest `json:"requests"`
	// Counters are those that tell of ICMP, fragments and timeouts, by node
	// and "Protocol.Name"; those that did not move are left out.
	Counters map[string]map[string]int64 `json:"counters"`
	// Exceptions are the learned MTUs in bytes, by node and destination.
	Exceptions map[string]map[string]int `json:"exceptions"`
}

// CellRequest is what a Cell tells of one request.
type CellRequest struct {
	Name    string `json:"name"`
	Class   Class  `json:"class"`
	Latency Ms     `json:"latency_ms"`
	// MSSOut and MSSIn are those of the two SYNs on the wire leg, in bytes.
	MSSOut uint16 `json:"mss_out"`
	MSSIn  uint16 `json:"mss_in"`
}

// cellCounters are the counters that cells tell of. How often TCP retransmits
// is not among them: its tail loss probes depend on how busy the machine is.
var cellCounters = []string{
	"Icmp.OutDestUnreachs", "Icmp.InDestUnreachs", "Ip.FragFails", "Ip.FragCreates", "Ip.ReasmOKs", "TcpExt.TCPTimeouts",
}

// Fill puts what a matrix tells of r into c.
func (c *Cell) Fill(r Result) {
	c.Verdict, c.Reasons, c.Duration, c.Runtime = r.Verdict, r.Reasons, r.Duration, r.Runtime
	c.Requests = []CellRequest{}
	for _, q := range r.Requests {
		wire := q.Connection.Wire()
		c.Requests = append(c.Requests, CellRequest{Name: q.Name, Class: q.Class, Latency: q.Latency, MSSOut: wire.MSSOut, MSSIn: wire.MSSIn})
	}
	c.Counters, c.Exceptions = map[string]map[string]int64{}, map[string]map[string]int{}
	for node, counters := range r.Counters {
		for _, name := range cellCounters {
			if n := counters[name]; n != 0 {
				put(c.Counters, node, name, n)
			}
		}
	}
	for _, x := range r.Exceptions {
		put(c.Exceptions, x.Node, x.Destination.String(), x.MTU)
	}
}

func put[V any](m map[string]map[string]V, outer, inner string, v V) {
	if m[outer] == nil {
		m[outer] = map[string]V{}
	}
	m[outer][inner] = v
}
