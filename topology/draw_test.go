package topology

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestDraw(t *testing.T) {
	for _, file := range append(glob(t, "testdata/draw/*.yaml"), "testdata/report.yaml") {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			spec, err := Parse(file, read(t, file))
			if err != nil {
				t.Fatal(err)
			}
			checkDrawings(t, spec)
			golden(t, "testdata/draw/"+name+".txt", strings.Join(spec.Draw(), "\n")+"\n")
			golden(t, "testdata/draw/"+name+".svg", spec.SVG())
			golden(t, "testdata/draw/"+name+".mmd", spec.Mermaid())
		})
	}
}

// checkDrawings holds the drawings of any Spec to what they promise.
func checkDrawings(t *testing.T, spec Spec) {
	t.Helper()
	checkDrawing(t, spec)
	checkXML(t, spec.SVG())
	checkPlan(t, spec)
	checkMermaid(t, spec.Mermaid())
}

// checkXML reads a document to its end.
func checkXML(t *testing.T, document string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(document))
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("not well-formed: %v in\n%s", err, document)
		}
	}
}

// checkPlan looks for what lies over something else, or outside the drawing.
func checkPlan(t *testing.T, spec Spec) {
	t.Helper()
	spec = spec.WithDefaults()
	cards, wires := spec.cards()
	p := newPlan(cards, wires, len(spec.Links))
	if len(p.boxes) > 100 {
		return
	}
	for i, b := range p.boxes {
		if b.x < margin || b.y < margin || b.x+b.width > p.width-margin || b.y+b.height > p.height-margin {
			t.Errorf("node %s is not within the drawing", b.name)
		}
		for _, l := range b.lines {
			if used := b.textColumn + pixels(length(l.text)+length(l.right)) + padding; used > b.width {
				t.Errorf("line %q of node %s takes %d pixels of %d", l.text+l.right, b.name, used, b.width)
			}
		}
		for _, other := range p.boxes[i+1:] {
			if b.x < other.x+other.width && other.x < b.x+b.width && b.y < other.y+other.height && other.y < b.y+b.height {
				t.Errorf("nodes %s and %s lie over each other", b.name, other.name)
			}
		}
		for _, w := range p.trunks {
			if half := w.tagWidth() / 2; w.x+half > b.x && w.x-half < b.x+b.width {
				t.Errorf("wire %q runs through the column of node %s", w.name, b.name)
			}
		}
	}
	for i, w := range p.trunks {
		for _, other := range p.trunks[i+1:] {
			if w.x == other.x {
				t.Errorf("wires %q and %q lie over each other", w.name, other.name)
			}
		}
	}
}

// checkMermaid checks that every line is one statement whose quotes are closed.
func checkMermaid(t *testing.T, text string) {
	t.Helper()
	statement := regexp.MustCompile(`^  (node\d+\["[^"]*"\]|segment\d+\(\["[^"]*"\]\)|(node|segment)\d+ ---\|"[^"]*"\| (node|segment)\d+)$`)
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if i > 1 && !statement.MatchString(line) {
			t.Errorf("not a statement: %q", line)
		}
	}
}

// checkDrawing holds a drawing in text to its width, and to naming every node.
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
	checkDrawings(t, spec)
	golden(t, "testdata/draw/parallel.txt", strings.Join(spec.Draw(), "\n")+"\n")
	golden(t, "testdata/draw/parallel.svg", spec.SVG())
}

func TestDrawInvalid(t *testing.T) {
	long := strings.Repeat("x", 200)
	spec := Spec{
		Nodes:    []Node{{Name: long, Routes: []Route{{Dev: long}}}, {}},
		Links:    []Link{{[2]End{{Node: "nowhere", Name: long}, {Node: long}}}},
		Segments: []Segment{{Name: long}, {Name: long, Ports: []End{{Node: long, Name: long}}}},
	}
	checkXML(t, spec.SVG())
	checkMermaid(t, spec.Mermaid())
	for _, line := range spec.Draw() {
		if length(line) > 100 {
			t.Errorf("line of %d columns: %q", length(line), line)
		}
	}
	if lines := (Spec{}).Draw(); len(lines) != 0 {
		t.Errorf("Draw of nothing = %q", lines)
	}
	checkXML(t, Spec{}.SVG())

	// Whatever a name is, it stays text.
	const odd = "end\"]<b>&#35;`\\\x00\xff\n--- |(x)|"
	spec = Spec{Name: odd, Nodes: []Node{{Name: odd, Kind: odd}, {Name: "b"}}, Links: []Link{{[2]End{{Node: odd, Name: odd}, {Node: "b"}}}}}
	spec.Segments = []Segment{{Name: odd, Ports: []End{{Node: odd}, {Node: "b"}}}}
	checkXML(t, spec.SVG())
	checkMermaid(t, spec.Mermaid())
}

// Two nodes that are joined stand beside each other, and the wire is straight.
func TestSVGOfPair(t *testing.T) {
	spec, err := Parse("pair.yaml", read(t, "testdata/draw/pair.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if path := regexp.MustCompile(`class="wire" d="M\d+ (\d+)H\d+H\d+"`); !path.MatchString(spec.SVG()) {
		t.Errorf("no straight line in\n%s", spec.SVG())
	}
}

// A drawing of much is made in time.
func TestDrawMany(t *testing.T) {
	spec := Spec{Name: "many"}
	for i := range 4000 {
		spec.Nodes = append(spec.Nodes, Node{Name: fmt.Sprintf("n%d", i)})
		spec.Links = append(spec.Links, Link{[2]End{{Node: fmt.Sprintf("n%d", i)}, {Node: fmt.Sprintf("n%d", i/2)}}}, Link{[2]End{{Node: fmt.Sprintf("n%d", i)}, {Node: fmt.Sprintf("n%d", max(0, i-1))}}})
		spec.Segments = append(spec.Segments, Segment{Name: fmt.Sprintf("s%d", i), Ports: []End{{Node: "n0"}, {Node: "n1"}}})
	}
	start := time.Now()
	checkXML(t, spec.SVG())
	spec.Mermaid()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}
