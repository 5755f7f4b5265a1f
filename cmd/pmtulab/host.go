package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/scenario"
)

// hostPlace is this machine's own kernel.
func hostPlace() place {
	return place{name: "host", title: "this host", kernel: hostKernel, needs: scenario.Scenario.Needs, run: runOnHost}
}

func hostKernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

func runOnHost(ctx context.Context, o order) outcome {
	var made outcome
	o.repeat(ctx, scenario.Options{
		Runtime:  record.Runtime{On: "host", Accelerator: "none", Reason: o.reason},
		Progress: o.progress.line,
	}, func(r record.Result, seen *record.Capture) {
		o.progress.ended(r)
		made.results = append(made.results, r)
		if seen != nil {
			made.capture.Reset()
			_ = writeCapture(&made.capture, r, *seen) // a buffer takes everything
		}
	})
	return made
}

// update is one record from a run in a guest to the command on the host.
type update struct {
	Progress string         `json:"progress,omitempty"`
	Result   *record.Result `json:"result,omitempty"`
	// Final tells the result of a run from a checkpoint.
	Final bool `json:"final,omitempty"`
	// Capture is the next piece of the capture of the run that ended last.
	Capture *piece `json:"capture,omitempty"`
}

// streamRuns runs here, in a guest, and streams everything to the command on the host,
// which judges the guest, renders and sets the exit code.
func streamRuns(ctx context.Context, o order, records io.WriteCloser) (err error) {
	defer func() { err = errors.Join(err, records.Close()) }()
	encoder := json.NewEncoder(records)
	send := func(u update) {
		// A host that has gone leaves nobody to tell.
		_ = encoder.Encode(u)
	}
	o.repeat(ctx, scenario.Options{
		OwnMachine: true,
		Runtime:    record.Runtime{On: "host", Accelerator: "none"},
		Progress:   func(line string) { send(update{Progress: line}) },
		Checkpoint: func(r record.Result) {
			r.Timeline = nil // large, and useless without its end
			send(update{Result: &r})
		},
	}, func(r record.Result, seen *record.Capture) {
		send(update{Result: &r, Final: true})
		if seen != nil {
			p := newPieces(func(p piece) { send(update{Capture: &p}) })
			_ = writeCapture(p, r, *seen) // sending does not fail, see above
			p.flush()
		}
	})
	return nil
}

// collect frees the memory of a run, so that the collector does not take its
// share of the processor in the middle of the next.
func collect() { runtime.GC() }

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
