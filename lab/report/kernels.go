package report

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/docker/go-units"

	"github.com/pmtulab/pmtulab/lab/record"
)

// Kernels writes k as a table for people; now is what ages are counted from.
func Kernels(w io.Writer, k record.Kernels, now time.Time, style Style) error {
	p := newPrinter(style)
	rows := [][]string{{"KERNEL", "VERSION", "SUITE", "SIZE", "CACHED"}}
	for _, x := range k.Kernels {
		suite, size, cached := "-", "-", "-"
		if len(x.Suites) > 0 {
			suite, size = x.Suites[0], humanSize(x.Download)
		}
		if x.Cached != nil {
			cached = humanSize(x.Cached.Bytes) + ", used " + age(now.Sub(x.Cached.Used))
		}
		rows = append(rows, []string{x.Ref, x.Version, suite, size, cached})
	}
	last := len(rows[0]) - 1
	widths := make([]int, last)
	for _, row := range rows {
		for i, cell := range row[:last] {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for i, row := range rows {
		var line strings.Builder
		for j, cell := range row[:last] {
			fmt.Fprintf(&line, "%-*s  ", widths[j], cell)
		}
		switch {
		case i == 0:
			p.line("%s", p.bold(line.String()+row[last]))
		case row[last] == "-":
			p.line("%s-", line.String())
		default:
			p.line("%s%s", line.String(), p.paint(green, row[last]))
		}
	}
	return p.writeTo(w)
}

// humanSize is a number of bytes for people.
func humanSize(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }

// age is a time that has passed, for people.
func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "now"
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", d/time.Hour)
	}
	return fmt.Sprintf("%d d ago", d/(24*time.Hour))
}
