package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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
// the shell, with variables env besides its own.
func scripts(t *testing.T, name string, env ...string) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", name),
		Setup: func(e *testscript.Env) error {
			e.Vars = append(e.Vars, env...)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "reaches": reaches,
		},
	})
}

// exits is the script command "exits CODE PROGRAM ARGS…".
func exits(ts *testscript.TestScript, _ bool, args []string) {
	end(ts, args[:1], args[1:])
}

// reaches is the script command "reaches CODE CODE PROGRAM ARGS…", for what
// depends on the machine.
func reaches(ts *testscript.TestScript, _ bool, args []string) {
	end(ts, args[:2], args[2:])
}

// end runs a program that ends with one of some exit codes.
func end(ts *testscript.TestScript, want, command []string) {
	code := 0
	if err := ts.Exec(command[0], command[1:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("run %v: %v", command, err)
		}
		code = exit.ExitCode()
	}
	if !slices.Contains(want, strconv.Itoa(code)) {
		ts.Fatalf("exit code %d, want %s", code, strings.Join(want, " or "))
	}
}

func TestUsage(t *testing.T) { scripts(t, "usage") }
