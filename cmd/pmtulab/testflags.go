package main

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/pmtulab/pmtulab/lab/guest"
)

// testOutputs are the files that the flags of a Go test binary name, so that
// "go test -exec" finds them where it looks. The form is that which go test
// passes, -test.FLAG=PATH; a relative path is below -test.outputdir, or dir.
// The log of what a test has read, -test.testlogfile, does not come back: by it
// go test would take the result of one kernel for that of another.
func testOutputs(args []string, dir string) []guest.Output {
	files := []string{"coverprofile", "cpuprofile", "memprofile", "blockprofile", "mutexprofile", "trace"}
	directories := []string{"gocoverdir"}
	values := map[string]string{}
	for _, arg := range args {
		if flag, ok := strings.CutPrefix(arg, "-test."); ok {
			name, value, _ := strings.Cut(flag, "=")
			values[name] = value
		}
	}
	absolute := func(path, below string) string {
		if filepath.IsAbs(path) {
			return filepath.Clean(path)
		}
		return filepath.Join(below, path)
	}
	below := absolute(values["outputdir"], dir)
	var out []guest.Output
	for _, name := range slices.Concat(files, directories) {
		if value := values[name]; value != "" {
			path := absolute(value, below)
			out = append(out, guest.Output{Path: path, Host: path, Dir: slices.Contains(directories, name)})
		}
	}
	return out
}
