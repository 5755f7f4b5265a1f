//go:build linux && uml

package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/series"
)

// pair is a network that this kernel can make, and a pause to be interrupted.
const pair = `name: pair
summary: a client and a server
topology:
  name: pair
  nodes: [{name: client}, {name: server}]
  links:
    - ends: [{node: client, addresses: [10.0.0.1/24]}, {node: server, addresses: [10.0.0.2/24]}]
servers: [{node: server, address: "10.0.0.2:443"}]
connections: [{name: A, from: client, to: "10.0.0.2:443"}]
steps: [{open: A}, {request: {connection: A, bytes: 256}}, {idle: 30s}]
`

// An interrupted run ends at once with 128 and the number of the signal, leaves
// nothing, and has kept what was measured.
func TestInterrupt(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pair.yaml")
	if err := os.WriteFile(file, []byte(pair), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		args   []string
		after  string
		signal syscall.Signal
		// What is kept: its schema, the least number of runs, the requests.
		schema         string
		runs, requests int
	}{
		{"boot", []string{"report", "--on", "uml"}, "boot Linux", syscall.SIGINT, record.Schema, 1, 0},
		{"stall", []string{"report", "--on", "uml"}, "request B", syscall.SIGINT, record.Schema, 1, 1},
		{"series", []string{"report", "--on", "uml", "--repeat", "50"}, "run 2 of 50", syscall.SIGTERM, record.SeriesSchema, 2, 2},
		{"host", []string{file, "--on", "host"}, "idle", syscall.SIGINT, record.Schema, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			scratch, out := t.TempDir(), t.TempDir()
			before := leftovers(t, scratch)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, "/proc/self/exe", append([]string{"run", "--out", out}, c.args...)...)
			cmd.Args[0] = "pmtulab" // see TestMain
			cmd.Env = append(os.Environ(), "TMPDIR="+scratch)
			seen := newWatcher(c.after)
			cmd.Stderr = seen
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			select {
			case <-seen.found:
			case <-ctx.Done():
				t.Fatalf("never saw %q in:\n%s", c.after, seen.text())
			}
			begun := time.Now()
			if err := cmd.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			var exit *exec.ExitError
			if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 128+int(c.signal) {
				t.Errorf("ended with %v, want exit code %d", err, 128+int(c.signal))
			}
			if took := time.Since(begun); took > 2*time.Second {
				t.Errorf("took %v to end", took)
			}
			if left := leftovers(t, scratch); len(left) > len(before) {
				t.Errorf("left behind %v, before there were %v", left, before)
			}
			data, err := os.ReadFile(filepath.Join(out, "result.json"))
			if err != nil {
				t.Fatal(err)
			}
			kept, err := series.Read("result.json", bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Contains(data, []byte(c.schema)) || kept.Verdict != record.Error || !kept.Partial || len(kept.Reasons) == 0 {
				t.Errorf("kept verdict %s, partial %t, reasons %q", kept.Verdict, kept.Partial, kept.Reasons)
			}
			if len(kept.Runs) < c.runs || len(kept.Requests) != c.requests {
				t.Errorf("kept %d runs with %d requests", len(kept.Runs), len(kept.Requests))
			}
		})
	}
}
