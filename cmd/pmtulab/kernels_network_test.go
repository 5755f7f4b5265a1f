//go:build network

package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/pmtulab/pmtulab/lab/guest"
	"github.com/pmtulab/pmtulab/lab/kernel"
	"github.com/pmtulab/pmtulab/lab/record"
)

// User-Mode Linux of every release of Debian boots on this one:
//
//	go test -tags network -run TestPulledUML ./cmd/pmtulab
func TestPulledUML(t *testing.T) {
	var cache kernel.Cache
	for _, ref := range []string{"uml/5.10", "uml/6.1", "uml/6.12", "uml/7"} {
		t.Run(ref, func(t *testing.T) {
			k, err := cache.Resolve(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			var stdout bytes.Buffer
			r, err := guest.Run(t.Context(), bootable(k),
				guest.Job{Args: []string{"uname", "-r"}, Modules: labModules, Stdout: &stdout})
			if err != nil || r.Outcome != record.GuestFinished || r.ExitCode != 0 {
				t.Fatalf("%v, %s, exit code %d: %s\n%s", err, r.Outcome, r.ExitCode, r.Detail, r.KernelLog)
			}
			if got := strings.TrimSpace(stdout.String()); got != k.Release {
				t.Errorf("it is Linux %s, want %s", got, k.Release)
			}
			t.Log(k.Release, k.Libs, r.Phases)
		})
	}
}
