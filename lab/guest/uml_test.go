//go:build linux && uml

// What only User-Mode Linux has.

package guest_test

import (
	"strings"
	"testing"

	"github.com/pmtulab/pmtulab/lab/guest"
	"github.com/pmtulab/pmtulab/lab/record"
)

func init() { kernels["uml"] = guest.FindUML }

func TestTooLittleMemory(t *testing.T) {
	for _, mib := range []int{24, 80} { // too little to hold it, to unpack it
		j := self("exit", "0")
		j.MemoryMiB = mib
		j.Files = []guest.File{{Path: "/big", Data: make([]byte, 40<<20)}}
		r, err := guest.Run(t.Context(), must(guest.FindUML()), j)
		if err != nil {
			t.Fatal(err)
		}
		if r.Outcome != record.GuestPanic || !strings.Contains(r.Detail, "raise MemoryMiB") {
			t.Errorf("%d MiB: %s (%s) does not name the remedy\n%s", mib, r.Outcome, r.Detail, r.KernelLog)
		}
		t.Log(r.Detail)
	}
}

// The time from the command to the job's main and to the end, by phase.
func BenchmarkGuest(b *testing.B) {
	phases := phaseTimes{}
	for b.Loop() {
		_, _, r := run(b, must(guest.FindUML()), self("exit", "0"), 0)
		phases.add(r)
	}
	phases.report(b)
}
