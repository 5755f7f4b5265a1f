package ladder

import (
	"cmp"
	"slices"

	"github.com/pmtulab/pmtulab/lab/record"
)

const (
	// rowHeight is the least distance of two rows, and the length of 1 ms.
	rowHeight = 34.0
	// broken is the time without a row from which on the axis is broken.
	broken = record.Ms(4)
	// belowRow is what a row needs before a break.
	belowRow = 14.0
)

// axis maps time to pixels, piecewise linearly between its knots. A millisecond
// has a row's height, stretched where rows crowd and broken where nothing
// happens for long.
type axis struct {
	at []record.Ms
	y  []float64
}

// add places the next row, and returns where.
func (a *axis) add(at record.Ms) float64 {
	y := headHeight
	if n := len(a.at); n > 0 {
		at = max(at, a.at[n-1])
		y = a.y[n-1] + rowHeight*max(1, float64(min(broken, at-a.at[n-1])))
	}
	a.knot(at, y)
	return y
}

// pause breaks the axis until at, and returns where the break begins.
func (a *axis) pause(at record.Ms, height float64) float64 {
	n := len(a.at)
	top := a.y[n-1] + belowRow
	a.knot(a.at[n-1], top)
	a.knot(at, top+height)
	return top
}

// last is the latest moment on the axis.
func (a *axis) last() record.Ms { return a.at[len(a.at)-1] }

func (a *axis) knot(at record.Ms, y float64) { a.at, a.y = append(a.at, at), append(a.y, y) }

// pixels is where at is, within the axis.
func (a *axis) pixels(at record.Ms) float64 {
	i, _ := slices.BinarySearchFunc(a.at, at, cmp.Compare[record.Ms])
	switch {
	case i == 0:
		return a.y[0]
	case i == len(a.at):
		return a.y[i-1]
	}
	share := float64(at-a.at[i-1]) / float64(a.at[i]-a.at[i-1])
	return a.y[i-1] + share*(a.y[i]-a.y[i-1])
}
