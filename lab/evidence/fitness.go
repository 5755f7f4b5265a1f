// Whether this machine keeps time well enough for what a run claims.

package evidence

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/wait"
)

// userHZ is the unit of /proc/stat, the same on every x86-64 kernel.
const userHZ = 100

// The sleeps of a calibration: as short as those between samples of a socket.
const (
	calibrationSleep  = 2 * time.Millisecond
	calibrationSleeps = 12
)

// Calibrate finds out how well this machine keeps time. It takes about 30 ms,
// during which nothing else of the caller's should run.
func Calibrate(ctx context.Context) (record.Clock, error) {
	c := record.Clock{Source: clocksource(), Step: clockStep()}
	before, err := steal()
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
	after, err := steal()
	if err != nil {
		return c, err
	}
	c.Steal = record.Millis(after - before)
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
		start := monotonic()
		now := start
		for now == start {
			now = monotonic()
		}
		least = min(least, now-start)
	}
	return record.Millis(least)
}

func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// steal is how long a hypervisor has kept all processors from this machine
// since it was booted.
func steal() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("read the stolen time: %w", err)
	}
	ticks, err := parseSteal(b)
	if err != nil {
		return 0, fmt.Errorf("read the stolen time: %w", err)
	}
	return time.Duration(ticks) * time.Second / userHZ, nil
}

// parseSteal reads the 8th figure of the line "cpu" of /proc/stat
// (proc_stat(5)).
func parseSteal(stat []byte) (ticks int64, err error) {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := strings.Fields(string(line))
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("no stolen time in %q", line)
	}
	if _, err := fmt.Sscan(fields[8], &ticks); err != nil {
		return 0, fmt.Errorf("no stolen time in %q: %w", line, err)
	}
	return ticks, nil
}
