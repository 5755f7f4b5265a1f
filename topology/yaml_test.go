package topology

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares got with a file, or writes it with -update.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (write it with -update)", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func glob(t testing.TB, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no file matches %s: %v", pattern, err)
	}
	return files
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Every bad file has all its problems reported, in order, each with its place.
func TestParseReportsAllProblems(t *testing.T) {
	for _, file := range glob(t, "testdata/bad/*.yaml") {
		name := filepath.Base(file)
		t.Run(strings.TrimSuffix(name, ".yaml"), func(t *testing.T) {
			start := time.Now()
			_, err := Parse(name, read(t, file))
			if took := time.Since(start); took > time.Second {
				t.Errorf("took %v", took)
			}
			problems, ok := errors.AsType[Problems](err)
			if !ok {
				t.Fatalf("Parse = %v, want Problems", err)
			}
			for _, p := range problems {
				if p.File != name || !strings.HasPrefix(p.Path, "$") || p.What == "" {
					t.Errorf("incomplete problem %+v", p)
				}
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".golden", problems.Error()+"\n")
		})
	}
}

// What YAML writes, Parse reads back unchanged, with and without defaults.
func TestYAMLRoundTrip(t *testing.T) {
	for _, file := range append(glob(t, "testdata/draw/*.yaml"), "testdata/report.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			spec, err := Parse(file, read(t, file))
			if err != nil {
				t.Fatal(err)
			}
			roundTrip(t, spec)
			roundTrip(t, spec.WithDefaults())
		})
	}
}

func roundTrip(t *testing.T, spec Spec) {
	t.Helper()
	written, err := spec.YAML()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Parse("written", written)
	if err != nil {
		t.Fatalf("%v in\n%s", err, written)
	}
	if !reflect.DeepEqual(spec, back) {
		t.Errorf("changed on the way:\n%+v\n%+v\n%s", spec, back, written)
	}
}

// Marks and markers that editors and other programs write around a document.
func TestParseAccepts(t *testing.T) {
	for name, document := range map[string]string{
		"byte order mark":  "\ufeffname: x\nnodes: [{name: a}]\n",
		"directive":        "%YAML 1.2\n---\nname: x\nnodes: [{name: a}]\n",
		"document markers": "---\nname: x\nnodes: [{name: a}]\n...\n",
		"last comment":     "name: x\nnodes: [{name: a}]\n# end\n",
		"carriage returns": "name: x\r\nnodes:\r\n  - name: a\r\n",
		"JSON":             `{"name": "x", "nodes": [{"name": "a"}]}`,
		"aliases":          "name: &x x\nnodes: [{name: a, tunnels: &none []}, {name: *x, tunnels: *none}]\n",
	} {
		t.Run(name, func(t *testing.T) {
			spec, err := Parse("x.yaml", []byte(document))
			if err != nil || spec.Name != "x" || spec.Nodes[0].Name != "a" {
				t.Errorf("Parse = %+v, %v", spec, err)
			}
		})
	}
}
