// Whether this machine keeps time well enough for what a run claims.

package evidence

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/wait"
)

// The sleeps of a calibration: as short as those between samples of a socket.
const (
	calibrationSleep  = 2 * time.Millisecond
	calibrationSleeps = 12
)

// Calibrate finds out how well this machine keeps time. It takes about 30 ms,
// during which nothing else of the caller's should run.
func Calibrate(ctx context.Context) (record.Clock, error) {
	c := record.Clock{Source: clocksource(), Step: clockStep()}
	// The first sleep in a guest that QEMU translates is 3 to 9 ms late: what it
	// runs through is translated just then.
	if err := wait.For(ctx, calibrationSleep); err != nil {
		return c, fmt.Errorf("measure how late sleeps end: %w", err)
	}
	before, err := readSteal()
	if err != nil {
		return c, err
	}
	began := time.Now()
	for range calibrationSleeps {
		start := time.Now()
		if err := wait.For(ctx, calibrationSleep); err != nil {
			return c, fmt.Errorf("measure how late sleeps end: %w", err)
		}
		c.Jitter = max(c.Jitter, record.Millis(time.Since(start)-calibrationSleep))
	}
	c.Took = record.Millis(time.Since(began))
	after, err := readSteal()
	if err != nil {
		return c, err
	}
	c.Steal = after.since(before)
	return c, nil
}

// clocksource is the kernel's own name for its source of time.
func clocksource() string {
	b, err := os.ReadFile("/sys/devices/system/clocksource/clocksource0/current_clocksource")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

// clockStep is the least difference of some readings of the monotonic clock:
// that of a clocksource which counts ticks is a tick, whatever clock_getres(2)
// says.
func clockStep() record.Ms {
	least := time.Hour
	for range 3 {
		var step time.Duration
		for start := time.Now(); step == 0; {
			step = time.Since(start)
		}
		least = min(least, step)
	}
	return record.Millis(least)
}
