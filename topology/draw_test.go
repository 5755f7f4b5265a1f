package topology

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestDraw(t *testing.T) {
	for _, file := range append(glob(t, "testdata/draw/*.yaml"), "testdata/report.yaml") {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			spec, err := Parse(file, read(t, file))
			if err != nil {
				t.Fatal(err)
			}
			checkDrawing(t, spec)
			golden(t, "testdata/draw/"+name+".txt", strings.Join(spec.Draw(), "\n")+"\n")
		})
	}
}

// checkDrawing holds any drawing to its width, and to naming every node.
func checkDrawing(t *testing.T, spec Spec) {
	t.Helper()
	lines := spec.Draw()
	for _, line := range lines {
		if length(line) > 100 || strings.TrimRight(line, " ") != line {
			t.Errorf("line of %d columns: %q", length(line), line)
		}
	}
	all := strings.Join(lines, "\n")
	for _, n := range spec.Nodes {
		if !strings.Contains(all, "─ "+n.Name) {
			t.Errorf("node %q is not drawn", n.Name)
		}
	}
}

// Wires that find no room are named at their ports.
func TestDrawTooManyWires(t *testing.T) {
	spec := Spec{Name: "parallel", Nodes: []Node{{Name: "left"}, {Name: "right"}}}
	for range 30 {
		spec.Links = append(spec.Links, Link{[2]End{{Node: "left"}, {Node: "right"}}})
	}
	spec.Segments = []Segment{{Name: "lan", Ports: []End{{Node: "left"}, {Node: "right"}}}}
	if err := spec.Validate(); err != nil {
		t.Fatal(err)
	}
	checkDrawing(t, spec)
	golden(t, "testdata/draw/parallel.txt", strings.Join(spec.Draw(), "\n")+"\n")
}

func TestDrawInvalid(t *testing.T) {
	long := strings.Repeat("x", 200)
	spec := Spec{
		Nodes:    []Node{{Name: long, Routes: []Route{{Dev: long}}}, {}},
		Links:    []Link{{[2]End{{Node: "nowhere", Name: long}, {Node: long}}}},
		Segments: []Segment{{Name: long}, {Name: long, Ports: []End{{Node: long, Name: long}}}},
	}
	for _, line := range spec.Draw() {
		if length(line) > 100 {
			t.Errorf("line of %d columns: %q", length(line), line)
		}
	}
	if lines := (Spec{}).Draw(); len(lines) != 0 {
		t.Errorf("Draw of nothing = %q", lines)
	}
}
