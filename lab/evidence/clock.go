package evidence

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab/record"
)

// clock brings the clocks of a run together. Events count from origin on
// CLOCK_MONOTONIC; the kernel stamps packets with CLOCK_REALTIME. Both run at
// the same rate, adjtimex included, so one measured offset holds until
// somebody sets the time. Calls are stamped with CLOCK_MONOTONIC itself.
type clock struct {
	// origin carries a monotonic reading.
	origin time.Time
	// offset is the realtime at origin, ns since 1970; it is known to within
	// uncertainty.
	offset int64
	// monotonic is CLOCK_MONOTONIC at origin, ns.
	monotonic   int64
	uncertainty time.Duration
}

func newClock(origin time.Time) (clock, error) {
	c := clock{origin: origin}
	var err error
	if c.monotonic, _, err = c.measure(unix.CLOCK_MONOTONIC); err != nil {
		return c, err
	}
	c.offset, c.uncertainty, err = c.measure(unix.CLOCK_REALTIME)
	return c, err
}

// now is the present moment.
func (c *clock) now() record.Ms { return record.Millis(time.Since(c.origin)) }

// moment converts a time stamp of the kernel.
func (c *clock) moment(realtime int64) record.Ms {
	return record.Millis(time.Duration(realtime - c.offset))
}

// monotonicMoment converts a moment of CLOCK_MONOTONIC.
func (c *clock) monotonicMoment(at time.Duration) record.Ms {
	return record.Millis(at - time.Duration(c.monotonic))
}

// step tells by how much the wall clock was set since newClock, to within the
// uncertainty that is returned too.
func (c *clock) step() (step, uncertainty time.Duration, err error) {
	offset, uncertainty, err := c.measure(unix.CLOCK_REALTIME)
	return time.Duration(offset - c.offset), uncertainty + c.uncertainty, err
}

// measure reads a clock of the kernel between two readings of Go's, and takes
// the try in which these lie closest together.
func (c *clock) measure(id int32) (offset int64, uncertainty time.Duration, err error) {
	const tries = 10
	uncertainty = time.Hour
	for range tries {
		before := time.Since(c.origin)
		var reading unix.Timespec
		if err := unix.ClockGettime(id, &reading); err != nil {
			return 0, 0, fmt.Errorf("read clock %d: %w", id, err)
		}
		half := (time.Since(c.origin) - before) / 2
		if half < uncertainty {
			offset, uncertainty = reading.Nano()-int64(before+half), half
		}
	}
	return offset, uncertainty, nil
}
