// Package wait is the only place where the laboratory lets time pass without
// an event. Readiness is never slept for: Until polls a condition and reports
// the last state it saw when the deadline comes first.
package wait

import (
	"context"
	"fmt"
	"time"
)

// Until calls ready every interval, the first time at once, until it returns
// nil. When ctx ends first, the error says what was waited for and wraps the
// last error of ready.
func Until(ctx context.Context, what string, interval time.Duration, ready func() error) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s (%w): last state: %w", what, context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}

// For lets d pass, or returns earlier with the cause of ctx's end.
func For(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("wait for %v: %w", d, context.Cause(ctx))
	case <-timer.C:
		return nil
	}
}
