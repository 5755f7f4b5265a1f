// Package matrix runs scenarios on several kernels, some at a time, and puts
// together what came of them. How a cell is run is the caller's.
package matrix

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pmtulab/pmtulab/lab/record"
)

// Scenario is one with the changes to the network that it is run with.
type Scenario struct {
	Name string
	// With are names of mitigations; "" is the network as it is.
	With []string
	// Live makes the mitigations while connections are open.
	Live bool
}

// Plan lists the cells of every scenario on every kernel: those that only
// differ in the kernel stand together.
func Plan(scenarios []Scenario, kernels []string) []record.Cell {
	var cells []record.Cell
	for _, s := range scenarios {
		for _, with := range s.With {
			for _, kernel := range kernels {
				cells = append(cells, record.Cell{
					Index: len(cells), Scenario: s.Name, With: with, Live: s.Live && with != "", Kernel: kernel,
				})
			}
		}
	}
	return cells
}

// Shard is the I-th of N parts, I counted from 1. The zero value is the whole.
type Shard struct{ I, N int }

// ParseShard reads I/N; empty is the whole.
func ParseShard(text string) (Shard, error) {
	if text == "" {
		return Shard{}, nil
	}
	var s Shard
	n, err := fmt.Sscanf(text, "%d/%d", &s.I, &s.N)
	if err != nil || n != 2 || s.String() != text || s.N < 1 || s.I < 1 || s.I > s.N {
		return Shard{}, fmt.Errorf("shard %s: must be I/N, the I-th of N parts, such as 1/4", text)
	}
	return s, nil
}

func (s Shard) String() string {
	if s.N == 0 {
		return ""
	}
	return fmt.Sprintf("%d/%d", s.I, s.N)
}

// Of are the cells of a shard: every N-th, so that each shard has some of every
// scenario.
func (s Shard) Of(cells []record.Cell) []record.Cell {
	if s.N == 0 {
		return cells
	}
	return slices.DeleteFunc(slices.Clone(cells), func(c record.Cell) bool { return c.Index%s.N != s.I-1 })
}

// Options say how cells are run.
type Options struct {
	// Jobs is how many run at a time, at least 1.
	Jobs int
	// Room tells whether there is memory for one more; nil is always. With no
	// cell under way it is not asked.
	Room func() bool
}

// roomInterval is how often Room is asked again while it says no.
const roomInterval = time.Second

// Run runs the cells, each by a call of run in a goroutine of its own, which
// fills the cell in. When ctx ends no more are started, and those that were not
// are left out.
func Run(ctx context.Context, cells []record.Cell, o Options, run func(context.Context, *record.Cell)) []record.Cell {
	var (
		cellEnded = make(chan struct{})
		started   = 0
		running   = 0
		tick      = time.NewTicker(roomInterval)
	)
	defer tick.Stop()
	cells = slices.Clone(cells)
	for running > 0 || started < len(cells) && ctx.Err() == nil {
		for started < len(cells) && ctx.Err() == nil && running < o.Jobs && (running == 0 || o.Room == nil || o.Room()) {
			go func(c *record.Cell) {
				run(ctx, c)
				cellEnded <- struct{}{}
			}(&cells[started])
			started++
			running++
		}
		select {
		case <-cellEnded:
			running--
		case <-tick.C:
		}
	}
	return cells[:started]
}

// New is the matrix, or the shard of it, that cells make; size counts the cells
// of all shards.
func New(cells []record.Cell, shard Shard, size int) record.Matrix {
	return record.Matrix{
		Schema: record.MatrixSchema, Shard: shard.String(), Size: size, Verdict: verdict(cells, size, shard), Cells: cells,
	}
}

// verdict is the worst of the cells': an error, which leaves the matrix with a
// hole, before a failure, before what is inconclusive. A cell that no kernel
// could run was asked for, so it has failed.
func verdict(cells []record.Cell, size int, shard Shard) record.Verdict {
	worst := record.Pass
	if shard.N == 0 && len(cells) < size {
		worst = record.Error
	}
	for _, c := range cells {
		v := c.Verdict
		if v == record.Unsupported {
			v = record.Fail
		}
		if v.Worse(worst) {
			worst = v
		}
	}
	return worst
}

// Merge puts shards together. They must be of one matrix, and no cell may be in
// two of them; cells that none has are missing in the result, whose verdict is
// then Error.
func Merge(parts []record.Matrix) (record.Matrix, error) {
	var cells []record.Cell
	var problems []error
	for _, p := range parts {
		if p.Size != parts[0].Size {
			problems = append(problems, fmt.Errorf("there are shards of a matrix of %d cells and of one of %d; merge shards of one matrix",
				parts[0].Size, p.Size))
		}
		cells = append(cells, p.Cells...)
	}
	slices.SortStableFunc(cells, func(a, b record.Cell) int { return cmp.Compare(a.Index, b.Index) })
	for i := range cells[:max(0, len(cells)-1)] {
		if a, b := cells[i], cells[i+1]; a.Index == b.Index {
			problems = append(problems, fmt.Errorf("cell %d is in two shards: %s on %s and %s on %s; give each shard once",
				a.Index, Label(a), a.Kernel, Label(b), b.Kernel))
		}
	}
	if len(problems) > 0 {
		return record.Matrix{}, errors.Join(problems...)
	}
	merged := New(cells, Shard{}, parts[0].Size)
	merged.Started = parts[0].Started
	for _, p := range parts {
		if p.Started.Before(merged.Started) {
			merged.Started = p.Started
		}
		merged.Duration = max(merged.Duration, p.Duration)
	}
	return merged, nil
}

// MaxCells is how many cells a matrix has at most.
const MaxCells = 10_000

// Decode is the matrix in d, whoever made it; the name is for errors.
func Decode(name string, d record.Document) (record.Matrix, error) {
	if d.Schema != record.MatrixSchema {
		return record.Matrix{}, d.Unknown(record.MatrixSchema) //nolint:wrapcheck // names the file
	}
	var m record.Matrix
	if err := d.Decode(&m); err != nil {
		return m, err //nolint:wrapcheck // names the file and the place
	}
	shard, err := ParseShard(m.Shard)
	if err != nil {
		return m, fmt.Errorf("read %s: %w", name, err)
	}
	if m.Size < 1 || m.Size > MaxCells {
		return m, fmt.Errorf("read %s: a matrix of %d cells; 1 to %d are wanted", name, m.Size, MaxCells)
	}
	for i, c := range m.Cells {
		if c.Index < 0 || c.Index >= m.Size || i > 0 && c.Index <= m.Cells[i-1].Index {
			return m, fmt.Errorf("read %s: cell %d is not in order, or not one of %d", name, c.Index, m.Size)
		}
	}
	m.Verdict = verdict(m.Cells, m.Size, shard)
	return m, nil
}

// Missing are the indices of cells that a whole matrix should have and has not.
func Missing(m record.Matrix) []int {
	var missing []int
	have := map[int]bool{}
	for _, c := range m.Cells {
		have[c.Index] = true
	}
	for i := range m.Size {
		if m.Shard == "" && !have[i] {
			missing = append(missing, i)
		}
	}
	return missing
}

// Label names a cell without its kernel.
func Label(c record.Cell) string {
	label := c.Scenario
	if c.With != "" {
		label += " with " + c.With
		if c.Live {
			label += ", live"
		}
	}
	return label
}

// Kernels splits a list of references at its commas, but for those before
// modules=, which belong to a reference.
func Kernels(list string) []string {
	var refs []string
	for part := range strings.SplitSeq(list, ",") {
		if n := len(refs); n > 0 && strings.HasPrefix(part, "modules=") {
			refs[n-1] += "," + part
		} else if part != "" {
			refs = append(refs, part)
		}
	}
	return refs
}
