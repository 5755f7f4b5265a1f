package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/pmtulab/pmtulab/lab/guest"
)

func TestTestOutputs(t *testing.T) {
	file := func(path string) guest.Output { return guest.Output{Path: path, Host: path} }
	for args, want := range map[string][]guest.Output{
		"x.test -test.v=true -test.run=^$ -run":                      nil,
		"x.test -test.coverprofile=/w/b/_cover_.out":                 {file("/w/b/_cover_.out")},
		"x.test -test.testlogfile=/w/testlog.txt":                    nil,
		"x.test -test.cpuprofile=cpu.out":                            {file("/package/cpu.out")},
		"x.test -test.trace=a/t.out -test.outputdir=/elsewhere":      {file("/elsewhere/a/t.out")},
		"x.test -test.outputdir=out -test.memprofile=../m":           {file("/package/m")},
		"x.test -test.gocoverdir=/w/cover -test.coverprofile=/w/c.o": {file("/w/c.o"), {Path: "/w/cover", Host: "/w/cover", Dir: true}},
	} {
		if got := testOutputs(strings.Fields(args), "/package"); !slices.Equal(got, want) {
			t.Errorf("%s: %+v, want %+v", args, got, want)
		}
	}
}

// goEnv is env with what go test needs in a script, whose HOME is empty.
func goEnv(env ...string) []string {
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOFLAGS", "GOTOOLCHAIN", "CGO_ENABLED"} {
		value, err := exec.Command("go", "env", name).Output()
		if err == nil {
			env = append(env, name+"="+strings.TrimSpace(string(value)))
		}
	}
	return env
}
