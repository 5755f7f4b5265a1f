// What a hung guest is doing: before it is killed, its kernel is made to write
// the stacks of its tasks and processors.

package guest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pmtulab/pmtulab/lab/wait"
)

const (
	// stacksTimeout bounds each step: a kernel that says nothing by then will
	// not.
	stacksTimeout = time.Second
	// stacksPause without output ends a step: the kernel writes a stack in one
	// go.
	stacksPause = 150 * time.Millisecond
)

// fetchStacks puts the stacks of a hung guest into the result.
func (r *run) fetchStacks() {
	r.log.ask()
	for _, step := range r.machine.stacks(hung{console: r.console, monitor: r.monitor, dir: r.heard().Dir}) {
		before := r.log.len()
		_ = r.monitor.SetDeadline(time.Now().Add(stacksTimeout))
		_ = r.console.SetWriteDeadline(time.Now().Add(stacksTimeout))
		if err := step(); err != nil {
			r.result.Stacks = fmt.Appendf(nil, "no more stacks: %v\n", err)
			break
		}
		r.settle(before)
	}
	r.result.Stacks = append(r.log.answer(), r.result.Stacks...)
}

// settle waits until the console has got more than it had before, and no more
// for a while.
func (r *run) settle(before int) {
	ctx, cancel := context.WithTimeout(context.Background(), stacksTimeout)
	defer cancel()
	last, since := before, time.Now()
	_ = wait.Until(ctx, "the stacks", 10*time.Millisecond, func() error {
		if n := r.log.len(); n != last {
			last, since = n, time.Now()
		}
		if last == before || time.Since(since) < stacksPause {
			return errWriting
		}
		return nil
	})
}

var errWriting = errors.New("the kernel is writing")
