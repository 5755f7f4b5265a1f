// Calls of kernel functions.

package evidence

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab"
	"github.com/pmtulab/pmtulab/lab/ktrace"
	"github.com/pmtulab/pmtulab/lab/record"
)

// functions watches kernel functions in the observed nodes; trace is nil where
// that cannot be done.
type functions struct {
	trace  *ktrace.Trace
	nodes  map[uint32]string
	probes record.Probes
	// missed counts calls by function, as far as they are among the losses;
	// checked is when they were counted.
	missed  map[string]int
	checked record.Ms
	losses  []record.Loss
	// drained counts the packets that had been seen when the ring was emptied.
	drained int
}

// watchFunctions never fails: an observer goes on without what a machine does
// not let it see, and says so.
func watchFunctions(nodes []Node) *functions {
	start := time.Now()
	f := &functions{nodes: map[uint32]string{}}
	var spaces []uint32
	for _, n := range nodes {
		space, err := spaceOf(n)
		if err != nil {
			f.probes.Unavailable = err.Error()
			return f
		}
		f.nodes[space] = n.Name()
		spaces = append(spaces, space)
	}
	var err error
	if f.trace, err = ktrace.Start(spaces); err != nil {
		f.probes.Unavailable = err.Error()
		return f
	}
	f.probes.Functions, f.probes.Instead = f.trace.Functions()
	f.probes.Attach = record.Millis(time.Since(start))
	return f
}

// spaceOf is the inode number of the network namespace of n.
func spaceOf(n Node) (uint32, error) {
	var s unix.Stat_t
	if err := n.Do(func() error { return unix.Stat("/proc/thread-self/ns/net", &s) }); err != nil {
		return 0, fmt.Errorf("find the network namespace of %s: %w", n.Name(), err)
	}
	return uint32(s.Ino), nil
}

// drain empties the ring when it may be half full by the number of packets seen
// so far, each of which makes two calls at most. In a short run this never
// happens: the kernel takes its time to write stacks.
func (f *functions) drain(packets int) {
	if f == nil || f.trace == nil || 2*(packets-f.drained) < f.trace.Room()/2 {
		return
	}
	f.drained = packets
	_ = f.trace.Drain() // Stop meets the same error
}

// finish puts what was seen into e.
func (f *functions) finish(e *Evidence, clock *clock) error {
	e.Probes = &f.probes
	if f.trace == nil {
		return nil
	}
	missed := f.check(clock.now())
	seen, err := f.trace.Stop()
	f.probes.Records = seen.Records
	for _, c := range seen.Calls {
		e.Events = append(e.Events, record.Event{
			At: clock.monotonicMoment(c.At), Node: f.nodes[c.Space], Call: &c.Call, Text: c.Text(),
		})
	}
	for _, g := range seen.Gaps {
		loss := record.Loss{Source: "functions", Count: g.Count, Detail: "the ring was full", To: clock.monotonicMoment(g.Before)}
		if g.After > 0 {
			loss.From = clock.monotonicMoment(g.After)
		}
		e.Losses = append(e.Losses, loss)
	}
	e.Losses = append(e.Losses, f.losses...)
	return errors.Join(missed, err)
}

// check counts the calls that were missed since it was called last, up to now.
func (f *functions) check(now record.Ms) error {
	if f == nil || f.trace == nil {
		return nil
	}
	missed, err := f.trace.Missed()
	for function, n := range missed {
		if more := n - f.missed[function]; more > 0 {
			f.losses = append(f.losses, record.Loss{
				Source: "functions", Count: more, From: f.checked, To: now,
				Detail: "calls of " + function + " came while a probe was at work",
			})
		}
	}
	f.missed, f.checked = missed, now
	return err //nolint:wrapcheck // it says what was tried
}

// FunctionsNeed is what watching kernel functions needs; without it an Observer
// goes on.
func FunctionsNeed() lab.Need {
	return lab.Need{
		Name: "kprobes", What: "probes on kernel functions (tracefs, kprobes, BTF)",
		Remedy: "run as root on a kernel with CONFIG_KPROBE_EVENTS and CONFIG_DEBUG_INFO_BTF, for example with --kernel 6.12",
		Try: func(n *lab.Node) (string, error) {
			space, err := spaceOf(n)
			if err != nil {
				return "", err
			}
			trace, err := ktrace.Start([]uint32{space})
			if err != nil {
				return "", err //nolint:wrapcheck // it says what it lacks
			}
			_, err = trace.Stop()
			return "", err //nolint:wrapcheck // as above
		},
	}
}
