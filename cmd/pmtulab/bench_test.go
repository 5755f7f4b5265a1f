//go:build linux && uml

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pmtulab/pmtulab/lab/record"
)

// BenchmarkReport runs the built binary and reports medians: the whole command
// to its end, the time from the command to the program's first word in the
// guest, and what the report measures; in User-Mode Linux, and on Linux 6.1 in
// QEMU.
func BenchmarkReport(b *testing.B) {
	b.Run("uml", func(b *testing.B) { benchmarkReport(b, "--on", "uml") })
	b.Run("qemu", func(b *testing.B) { benchmarkReport(b, "--on", "qemu", "--kernel", "6.1") })
}

// BenchmarkMatrix runs the report on five kernels, two at a time.
func BenchmarkMatrix(b *testing.B) {
	var took []float64
	for b.Loop() {
		begun := time.Now()
		out, err := exec.CommandContext(b.Context(), built(b), "matrix", "report", "--kernels", "5.10,6.1,6.12,6.17,7", "-j", "2").CombinedOutput()
		if err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		took = append(took, millis(time.Since(begun)))
	}
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2], "ms/matrix")
	b.ReportMetric(0, "ns/op")
}

// built is the binary that make build has made.
func built(b *testing.B) string {
	b.Helper()
	binary, err := filepath.Abs("../../bin/pmtulab")
	if err != nil {
		b.Fatal(err)
	}
	if _, err := os.Stat(binary); err != nil {
		b.Fatalf("%v; run make build first", err)
	}
	return binary
}

func benchmarkReport(b *testing.B, on ...string) {
	b.Helper()
	binary := built(b)
	figures := map[string][]float64{}
	note := func(unit string, value float64) { figures[unit] = append(figures[unit], value) }
	for b.Loop() {
		begun := time.Now()
		cmd := exec.CommandContext(b.Context(), binary, append([]string{"run", "report", "--format", "json"}, on...)...)
		var out bytes.Buffer
		cmd.Stdout = &out
		inGuest := newWatcher("measure the clock")
		cmd.Stderr = inGuest
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		<-inGuest.found
		note("ms/guest-main", millis(time.Since(begun)))
		if err := cmd.Wait(); err != nil {
			b.Fatalf("%v\n%s", err, inGuest.text())
		}
		note("ms/command", millis(time.Since(begun)))

		var r record.Result
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			b.Fatal(err)
		}
		for _, p := range r.Phases {
			note("ms/phase-"+strings.ReplaceAll(p.Name, " ", "-"), float64(p.Ms))
		}
		stall := r.Stalls[0]
		note("ms/A", float64(r.Requests[0].Latency))
		note("ms/B", float64(r.Requests[1].Latency))
		note("ms/B-stall", float64(stall.Duration))
		note("samples/B-stall", float64(stall.Samples))
		note("ms/B-prediction-off", float64(r.Requests[1].Wrote+stall.Duration-stall.Predicted))
		note("ms/longest-sample-gap", float64(r.Figures.MaxGap))
		note("%cpu/sampling", 100*float64(r.Figures.Sampling)/float64(r.Requests[0].Latency+r.Requests[1].Latency))
	}
	for unit, values := range figures {
		slices.Sort(values)
		b.ReportMetric(values[len(values)/2], unit)
	}
	b.ReportMetric(0, "ns/op") // the mean of all runs says less than the medians
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
