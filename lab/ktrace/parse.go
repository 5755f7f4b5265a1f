// The text of trace_pipe.

package ktrace

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// hit is a line of trace_pipe that a probe made.
type hit struct {
	// at is on CLOCK_MONOTONIC.
	at     time.Duration
	cpu    int
	thread int
	event  string
	values map[string]int64
	stack  []string
}

// gap is where the ring overflowed.
type gap struct {
	// after and before are the moments of the records around it, on any
	// processor; 0 where there is none.
	after, before time.Duration
	count         int
}

// trace is what was read from trace_pipe.
type trace struct {
	hits []hit
	gaps []gap
	// open are the hits that wait for their stacks, by processor: an interrupt
	// may come between a probe's record and its stack.
	open map[int][]int
	// stack is the hit that the frames belong to, -1 when none does.
	stack int
	last  time.Duration
	// full tells that the last gap is of hits beyond mostHits.
	full bool
}

// mostHits bounds the memory: a hit takes about 2 KiB.
const mostHits = 20_000

func newTrace() *trace { return &trace{open: map[int][]int{}, stack: -1} }

// beyond counts a hit that there was no memory for.
func (t *trace) beyond(at time.Duration) {
	if n := len(t.gaps); n > 0 && t.full {
		t.gaps[n-1].before = at
		t.gaps[n-1].count++
		return
	}
	t.full, t.gaps = true, append(t.gaps, gap{at, at, 1})
}

var (
	// lineForm is "  TASK-PID  [CPU] FLAGS SECONDS.MICROSECONDS: REST"; the name
	// of a task may contain anything.
	lineForm = regexp.MustCompile(`-(\d{1,9}) +\[(\d{1,4})\] \S+ +(\d{1,9})\.(\d{6}): (.*)$`)
	// eventForm is the REST of a probe: "EVENT: (PLACE) NAME=VALUE …".
	eventForm = regexp.MustCompile(`^(\w+): \([^)]*\)(.*)$`)
	lostForm  = regexp.MustCompile(`^CPU:\d+ \[LOST (\d{1,9}) EVENTS\]$`)
)

// line takes over one line. Lines of other forms are left out.
func (t *trace) line(line string) {
	if frame, ok := strings.CutPrefix(line, " => "); ok {
		if t.stack >= 0 {
			h := &t.hits[t.stack]
			h.stack = append(h.stack, strings.TrimSpace(frame))
		}
		return
	}
	t.stack = -1
	if lost := lostForm.FindStringSubmatch(line); lost != nil {
		count, _ := strconv.Atoi(lost[1])
		t.full, t.gaps = false, append(t.gaps, gap{after: t.last, count: count})
		clear(t.open)
		return
	}
	found := lineForm.FindStringSubmatch(line)
	if found == nil {
		return
	}
	thread, _ := strconv.Atoi(found[1])
	cpu, _ := strconv.Atoi(found[2])
	seconds, _ := strconv.Atoi(found[3])
	micros, _ := strconv.Atoi(found[4])
	t.last = time.Duration(seconds)*time.Second + time.Duration(micros)*time.Microsecond
	for i := len(t.gaps) - 1; i >= 0 && t.gaps[i].before == 0; i-- {
		t.gaps[i].before = t.last
	}
	open := t.open[cpu]
	if found[5] == "<stack trace>" {
		if n := len(open); n > 0 {
			t.stack, t.open[cpu] = open[n-1], open[:n-1]
		}
		return
	}
	event := eventForm.FindStringSubmatch(found[5])
	if event == nil {
		return
	}
	h := hit{at: t.last, cpu: cpu, thread: thread, event: event[1], values: map[string]int64{}}
	for field := range strings.FieldsSeq(event[2]) {
		name, text, _ := strings.Cut(field, "=")
		if n, err := strconv.ParseInt(text, 0, 64); err == nil {
			h.values[name] = n
		} else if n, err := strconv.ParseUint(text, 0, 64); err == nil {
			h.values[name] = int64(n)
		}
	}
	if len(t.hits) == mostHits {
		t.beyond(t.last)
		return
	}
	t.open[cpu] = append(open, len(t.hits))
	t.hits = append(t.hits, h)
}
