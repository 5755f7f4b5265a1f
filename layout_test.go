// Package pmtulab has no code; its test keeps the packages' dependencies
// pointing one way.
package pmtulab

import (
	"go/build"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/pmtulab/pmtulab/"

// mayImport lists what of this module each package may import. A package that
// is not in it may import nothing; a new package gets a line here.
var mayImport = map[string][]string{
	"topology":       {},
	"lab/record":     {},
	"lab/capability": {},
	"lab/role":       {},
	"lab/wait":       {},
	"lab/ipvs":       {},
	"lab/sidecar":    {"lab/role", "lab/wait"},
	"lab/traffic":    {"lab/record"},
	"lab":            {"topology", "lab/ipvs", "lab/sidecar", "lab/capability", "lab/role", "lab/wait"},
	"lab/ktrace":     {"lab/record"},
	"lab/evidence":   {"lab", "lab/ipvs", "lab/ktrace", "lab/record", "lab/wait"},
	"lab/diagnosis":  {"lab/record"},
	"lab/guest":      {"lab/record", "lab/role", "lab/wait"},
	"lab/kernel":     {"lab/record", "lab/wait"},
	"lab/ladder":     {"lab/record", "lab/diagnosis"},
	"lab/pcapng":     {},
	"lab/report":     {"lab/record", "lab/diagnosis", "lab/ladder", "lab/matrix", "lab/pcapng", "topology"},
	"lab/scenario": {
		"lab", "lab/diagnosis", "lab/evidence", "lab/record", "lab/sidecar", "lab/traffic", "lab/wait", "scenarios", "topology",
	},
	"lab/series":  {"lab/record"},
	"lab/matrix":  {"lab/record"},
	"lab/watch":   {"lab/diagnosis", "lab/evidence", "lab/record"},
	"docs/schema": {},
	"scenarios":   {},
	"cmd/pmtulab": {"lab", "lab/evidence", "lab/guest", "lab/kernel", "lab/matrix", "lab/record", "lab/report", "lab/scenario", "lab/series", "lab/watch", "docs/schema", "topology"},
	"e2e":         {},
}

func TestDependenciesPointOneWay(t *testing.T) {
	seen := map[string]bool{}
	for _, dir := range packages(t) {
		seen[dir] = true
		for _, imported := range imports(t, dir) {
			if !slices.Contains(mayImport[dir], imported) {
				t.Errorf("%s imports %s; it may import %v", dir, imported, mayImport[dir])
			}
		}
	}
	for dir := range mayImport {
		if !seen[dir] {
			t.Errorf("there is no package %s", dir)
		}
	}
}

// packages are the folders below here with Go files, this one left out.
func packages(t *testing.T) []string {
	t.Helper()
	var dirs []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return fs.SkipDir
		case !d.IsDir() && strings.HasSuffix(path, ".go") && filepath.Dir(path) != ".":
			dirs = append(dirs, filepath.ToSlash(filepath.Dir(path)))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// imports are the packages of this module that dir imports, tests left out.
func imports(t *testing.T, dir string) []string {
	t.Helper()
	p, err := build.ImportDir(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, path := range p.Imports {
		if own, ok := strings.CutPrefix(path, module); ok {
			out = append(out, own)
		}
	}
	return out
}
