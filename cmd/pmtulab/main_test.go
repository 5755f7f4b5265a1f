package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pmtulab/pmtulab/lab"
	"github.com/pmtulab/pmtulab/lab/guest"
)

func TestMain(m *testing.M) {
	lab.Main(guest.Roles()...)
	testscript.Main(m, map[string]func(){
		"pmtulab": func() { os.Exit(command(os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

// scripts runs the txtar scripts of testdata/NAME; each reads as a session at
// the shell.
func scripts(t *testing.T, name string) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", name),
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
		},
	})
}

// exits is the script command "exits CODE PROGRAM ARGS…".
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("run %v: %v", args[1:], err)
		}
		code = exit.ExitCode()
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

func TestUsage(t *testing.T) { scripts(t, "usage") }
