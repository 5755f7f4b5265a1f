package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab/evidence"
	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/report"
	"github.com/pmtulab/pmtulab/lab/watch"
)

func watchCommand() *cobra.Command {
	var (
		interval, timeout time.Duration
		pid               int
		format            string
	)
	c := &cobra.Command{
		Use:   "watch",
		Short: "Tell which sockets of this machine stall now, and why",
		Long: `Watch looks at the TCP sockets of this machine, its PMTU exceptions and its ICMP
counters, without a lab and without touching anything, and tells as they come
and go, one line each:

    stall           a socket waits for the probe0 timer with nothing in flight,
                    although the window is open and data is unsent
    zero-window     the same, because the peer takes no more
    retransmission  a socket's retransmission timer has run out
    stale-route     a connection makes longer packets than what its kernel has
                    learned about the path; its next long write may stall
    exception       a PMTU exception has come, changed or gone
    icmp            destination unreachable, received and sent

It needs no rights for its own network namespace; for that of another process,
such as a container's, it needs root. It ends with SIGINT, or after --for.`,
		Example: `  pmtulab watch
  pmtulab watch --pid 4711
  pmtulab watch --for 1m --format json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkFormat(format, textOrJSON()...); err != nil {
				return err
			}
			if err := watch.CheckInterval(interval); err != nil {
				return usage(fmt.Errorf("--interval %v: %w", interval, err))
			}
			ctx := c.Context()
			if timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, timeout)
				defer cancel()
			}
			machine, err := openMachine(pid)
			if err != nil {
				return err
			}
			defer machine.Close()
			for _, unseen := range machine.Unseen {
				fmt.Fprintln(c.ErrOrStderr(), "pmtulab: not seen here:", unseen)
			}
			whose := "of this process"
			if pid != 0 {
				whose = fmt.Sprintf("of process %d", pid)
			}
			fmt.Fprintf(c.ErrOrStderr(), "pmtulab: watching the network namespace %s every %v\n", whose, interval)
			show := func(s record.Sighting) error { return report.Sighting(c.OutOrStdout(), s, style()) }
			if format == "json" {
				encoder := json.NewEncoder(c.OutOrStdout())
				show = func(s record.Sighting) error { return encoder.Encode(s) }
			}
			return watchUntil(ctx, watch.New(machine), interval, show)
		},
	}
	flags := c.Flags()
	flags.DurationVar(&interval, "interval", 100*time.Millisecond, "look this often; a stall lasts 200 ms")
	flags.DurationVar(&timeout, "for", 0, "end after this `TIME`; 0 is never")
	flags.IntVar(&pid, "pid", 0, "watch the network namespace of the process `PID`")
	formatFlag(c, &format, textOrJSON()...)
	complete(c, "interval", fixed("20ms", "50ms", "100ms"))
	complete(c, "for", fixed())
	complete(c, "pid", fixed())
	return c
}

// watchUntil looks until ctx ends.
func watchUntil(ctx context.Context, w *watch.Watcher, interval time.Duration, show func(record.Sighting) error) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		found, err := w.Look(time.Now())
		for _, s := range found {
			if err := show(s); err != nil {
				return &exitError{record.ExitError, err}
			}
		}
		if err != nil && !errors.Is(err, unix.EINTR) { // a dump that others disturbed is made again
			return &exitError{record.ExitError, err}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done(): // to be interrupted is its usual end
			return nil
		}
	}
}

// openMachine opens the network namespace of a process, or this one's for 0.
func openMachine(pid int) (*evidence.Machine, error) {
	if pid == 0 {
		m, err := evidence.OpenMachine()
		if err != nil {
			return nil, &exitError{record.ExitUnsupported, fmt.Errorf("watch this machine: %w; it needs the module tcp_diag", err)}
		}
		return m, nil
	}
	namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return nil, usage(fmt.Errorf("--pid %d: %w", pid, err))
	}
	defer namespace.Close()
	type opened struct {
		machine *evidence.Machine
		err     error
	}
	result := make(chan opened)
	go func() {
		// The thread ends with the goroutine: it is in another namespace.
		runtime.LockOSThread()
		if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- opened{nil, fmt.Errorf("enter its network namespace: %w; run as root", err)}
			return
		}
		m, err := evidence.OpenMachine()
		result <- opened{m, err}
	}()
	r := <-result
	if r.err != nil {
		return nil, &exitError{record.ExitUnsupported, fmt.Errorf("--pid %d: %w", pid, r.err)}
	}
	return r.machine, nil
}
