package matrix

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pmtulab/pmtulab/lab/record"
)

func plan() []record.Cell {
	return Plan([]Scenario{{Name: "a", With: []string{"", "x"}, Live: true}, {Name: "b", With: []string{""}}}, []string{"5.10", "6.1"})
}

func names(cells []record.Cell) []string {
	var out []string
	for _, c := range cells {
		out = append(out, Label(c)+" on "+c.Kernel)
	}
	return out
}

func TestPlan(t *testing.T) {
	want := []string{"a on 5.10", "a on 6.1", "a with x, live on 5.10", "a with x, live on 6.1", "b on 5.10", "b on 6.1"}
	if diff := cmp.Diff(want, names(plan())); diff != "" {
		t.Error(diff)
	}
}

func TestKernels(t *testing.T) {
	want := []string{"5.10", "vmlinuz,modules=lib/modules", "uml/6.1"}
	if got := Kernels("5.10,vmlinuz,modules=lib/modules,uml/6.1,"); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestParseShard(t *testing.T) {
	for _, bad := range []string{"1", "0/2", "3/2", "1/0", "a/b", "1/2x", " 1/2", "-1/2", "01/2"} {
		if s, err := ParseShard(bad); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v, %v", bad, s, err)
		}
	}
	for _, good := range []string{"", "1/1", "2/3", "10/10"} {
		if s, err := ParseShard(good); err != nil || s.String() != good {
			t.Errorf("%q: %q, %v", good, s, err)
		}
	}
}

// The shards of a matrix have each cell once, for any number of shards, and
// merge to what one machine would have made.
func TestShards(t *testing.T) {
	ran := Run(t.Context(), plan(), Options{Jobs: 3}, func(_ context.Context, c *record.Cell) {
		c.Verdict = record.Pass
		if c.Index == 4 {
			c.Verdict = record.Unsupported
		}
	})
	whole := New(ran, Shard{}, len(ran))
	if whole.Verdict != record.Fail {
		t.Errorf("verdict is %s: a cell that no kernel could run has failed", whole.Verdict)
	}
	for n := 1; n <= len(ran)+1; n++ {
		var parts []record.Matrix
		for i := 1; i <= n; i++ {
			parts = append(parts, New(Shard{i, n}.Of(ran), Shard{i, n}, len(ran)))
		}
		slices.Reverse(parts)
		merged, err := Merge(parts)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(whole, merged); diff != "" {
			t.Errorf("%d shards (-whole +merged):\n%s", n, diff)
		}
		if n > 1 {
			lacking, err := Merge(parts[1:])
			if err != nil || len(parts[0].Cells) > 0 && (lacking.Verdict != record.Error || len(Missing(lacking)) != len(parts[0].Cells)) {
				t.Errorf("without shard %d: %v, %s, missing %v", n, err, lacking.Verdict, Missing(lacking))
			}
		}
	}
}

func TestMergeErrors(t *testing.T) {
	cells := plan()
	one := New(cells[:1], Shard{1, 2}, 6)
	for want, parts := range map[string][]record.Matrix{
		"cell 0 is in two shards: a on 5.10":         {one, one},
		"a matrix of 8 cells and of one of 6; merge": {New(cells[1:2], Shard{1, 2}, 8), New(cells[:1], Shard{2, 2}, 6)},
	} {
		if _, err := Merge(parts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// Never more cells at a time than asked for, nor with no memory than one; all
// are run.
func TestRunLimits(t *testing.T) {
	for _, tt := range []struct {
		jobs, most int
		room       func() bool
	}{
		{1, 1, nil}, {3, 3, nil}, {100, 6, nil}, {3, 1, func() bool { return false }},
	} {
		var now, most, all atomic.Int32
		var gate sync.WaitGroup
		gate.Add(tt.most)
		var opened atomic.Int32
		cells := Run(t.Context(), plan(), Options{Jobs: tt.jobs, Room: tt.room}, func(_ context.Context, c *record.Cell) {
			n := now.Add(1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			// The first ones wait for each other: so many do run at a time.
			if int(opened.Add(1)) <= tt.most {
				gate.Done()
				gate.Wait()
			}
			c.Verdict = record.Pass
			all.Add(1)
			now.Add(-1)
		})
		if int(most.Load()) != tt.most || all.Load() != 6 || len(cells) != 6 || cells[5].Verdict != record.Pass {
			t.Errorf("%d jobs: %d at a time, want %d; %d of %d cells run", tt.jobs, most.Load(), tt.most, all.Load(), len(cells))
		}
	}
}

// An interrupted matrix has the cells that were started.
func TestRunInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cells := Run(ctx, plan(), Options{Jobs: 1}, func(_ context.Context, c *record.Cell) {
		if c.Index == 1 {
			cancel()
		}
	})
	if len(cells) != 2 {
		t.Errorf("%d cells, want 2", len(cells))
	}
}

func TestDecode(t *testing.T) {
	good := New(plan(), Shard{}, 6)
	for want, change := range map[string]func(*record.Matrix){
		"its schema is":          func(m *record.Matrix) { m.Schema = record.Schema },
		"a matrix of 0 cells":    func(m *record.Matrix) { m.Size = 0 },
		"must be I/N":            func(m *record.Matrix) { m.Shard = "2" },
		"cell 9 is not in order": func(m *record.Matrix) { m.Cells = []record.Cell{{Index: 9}} },
		"cell 0 is not in order": func(m *record.Matrix) { m.Cells = []record.Cell{{Index: 1}, {}} },
	} {
		m := good
		change(&m)
		if _, err := decode(t, m); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "read saved:") {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if m, err := decode(t, good); err != nil || len(m.Cells) != 6 {
		t.Errorf("%v, %d cells", err, len(m.Cells))
	}
}

func decode(t *testing.T, m record.Matrix) (record.Matrix, error) {
	t.Helper()
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	d, err := record.ReadDocument("saved", strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return Decode("saved", d)
}

func TestParseAvailable(t *testing.T) {
	if mib, ok := parseAvailable([]byte("MemTotal:  100 kB\nMemAvailable:    3145728 kB\n")); mib != 3072 || !ok {
		t.Errorf("%d, %v", mib, ok)
	}
	if _, ok := parseAvailable([]byte("MemTotal:  100 kB\n")); ok {
		t.Error("it is not there")
	}
}
