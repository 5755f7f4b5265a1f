package report

import (
	"bytes"
	"io"
	"testing"

	"github.com/pmtulab/pmtulab/lab/matrix"
	"github.com/pmtulab/pmtulab/lab/record"
)

// matrices are the recorded run on kernels that differ in one thing each: one
// with failures, and one that lacks a shard.
func matrices(t *testing.T) map[string]record.Matrix {
	t.Helper()
	cells := matrix.Plan([]matrix.Scenario{{Name: "report", With: []string{"", "client-route-mtu"}, Live: true}}, []string{"5.10", "6.1", "6.12"})
	for i := range cells {
		c := &cells[i]
		r := measured(t)
		r.Runtime = record.Runtime{On: "qemu", Kernel: c.Kernel + ".99", KernelRef: c.Kernel, Accelerator: "tcg"}
		switch i {
		case 0:
			r.Verdict, r.Reasons = record.Fail, []string{"class of request A: expected pmtu-retransmit, measured clean"}
			r.Requests[0].Class = record.Clean
			delete(r.Counters["lb"], "Icmp.OutDestUnreachs")
			r.Exceptions = nil
		case 2:
			r.Verdict, r.Reasons = record.Error, []string{"guest outcome \"panic\": Kernel panic - not syncing\nthe end of its kernel log"}
			r.Requests, r.Counters, r.Exceptions = nil, nil, nil
		case 4:
			r.Verdict, r.Reasons = record.Unsupported, []string{"kernel 6.1 lacks ip_vs: CONFIG_IP_VS is not set"}
		}
		c.Fill(r)
		c.Reproduce = Command(r)
	}
	failing := matrix.New(cells, matrix.Shard{}, len(cells))
	failing.Duration = 12345
	long := matrix.Plan([]matrix.Scenario{{Name: "question-4", With: []string{""}}}, []string{"6.1"})
	r, err := record.ReadFile("testdata/question-4.json")
	if err != nil {
		t.Fatal(err)
	}
	long[0].Fill(r)
	return map[string]record.Matrix{
		"matrix-wide":    matrix.New(long, matrix.Shard{}, 1),
		"matrix":         failing,
		"matrix-shard":   matrix.New(matrix.Shard{I: 2, N: 3}.Of(cells), matrix.Shard{I: 2, N: 3}, len(cells)),
		"matrix-missing": matrix.New(cells[:2], matrix.Shard{}, 4),
	}
}

func TestMatrix(t *testing.T) {
	for name, m := range matrices(t) {
		t.Run(name, func(t *testing.T) {
			text(t, name, func(w io.Writer, style Style) error { return Matrix(w, m, style) })
			for suffix, render := range map[string]func(io.Writer, record.Matrix) error{".md": MatrixMarkdown, ".xml": MatrixJUnit} {
				var b bytes.Buffer
				if err := render(&b, m); err != nil {
					t.Fatal(err)
				}
				golden(t, name+suffix, b.Bytes())
			}
		})
	}
}
