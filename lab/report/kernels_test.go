package report

import (
	"io"
	"testing"
	"time"

	"github.com/pmtulab/pmtulab/lab/record"
)

func TestKernels(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	kernels := record.Kernels{Kernels: []record.Kernel{
		{Ref: "6.1", Version: "6.1.192-2", Suites: []string{"bookworm-security", "bookworm"}, Download: 26_713_492},
		{Ref: "6.8", Version: "6.8.0-31.31", Cached: &record.CachedKernel{Bytes: 1_250_000_000, Used: now.Add(-3 * time.Hour)}},
		{
			Ref: "uml/6.12", Version: "6.12.113-1", UML: true, Suites: []string{"trixie"}, Download: 38_600_000,
			Cached: &record.CachedKernel{Bytes: 179_000_000, Used: now.Add(-50 * 24 * time.Hour)},
		},
	}}
	text(t, "kernels", func(w io.Writer, style Style) error { return Kernels(w, kernels, now, style) })
}
