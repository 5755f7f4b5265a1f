//go:build network

package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

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
				guest.Job{
					// TLS waits for random numbers where there are none.
					Args:    []string{"head", "-q", "-c", "32", "/proc/sys/kernel/osrelease", "/dev/random"},
					Modules: labModules, Stdout: &stdout, RunTimeout: 5 * time.Second,
				})
			if err != nil || r.Outcome != record.GuestFinished || r.ExitCode != 0 {
				t.Fatalf("%v, %s, exit code %d: %s\n%s", err, r.Outcome, r.ExitCode, r.Detail, r.KernelLog)
			}
			if got, random, _ := strings.Cut(stdout.String(), "\n"); got != k.Release || len(random) != 32 {
				t.Errorf("it is Linux %s with %d random bytes, want %s with 32", got, len(random), k.Release)
			}
			t.Log(k.Release, k.Libs, r.Phases)
		})
	}
}
