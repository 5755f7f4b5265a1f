package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/pmtulab/pmtulab/lab/record"
)

// progress shows what happens on stderr: one line that changes on a terminal,
// plain lines elsewhere; of several runs those show only how each ended.
type progress struct {
	terminal bool
	width    int
	begun    time.Time
	// runs are wanted, and the one under way counts from 1.
	runs, run int
	// say takes all text in place of stderr, if not nil.
	say func(text string)
}

func newProgress(runs int) *progress {
	fd := int(os.Stderr.Fd())
	p := &progress{terminal: term.IsTerminal(fd), width: 80, begun: time.Now(), runs: runs, run: 1}
	if columns, _, err := term.GetSize(fd); p.terminal && err == nil {
		p.width = columns
	}
	return p
}

// line tells what happens next.
func (p *progress) line(text string) {
	if p.runs == 1 {
		p.print(text)
	} else if p.terminal {
		p.print(fmt.Sprintf("run %d of %d  %s", p.run, p.runs, text))
	}
}

// ended tells how a run ended.
func (p *progress) ended(r record.Result) {
	if p.runs > 1 {
		text := fmt.Sprintf("run %d of %d  %s", p.run, p.runs, r.Verdict)
		for _, q := range r.Requests {
			text += fmt.Sprintf("  %s %s %.1f ms", q.Name, q.Class, q.Latency)
		}
		p.print(text)
	}
	p.run++
}

func (p *progress) print(text string) {
	if p.say != nil {
		p.say(text)
		return
	}
	at := time.Since(p.begun).Seconds()
	if !p.terminal {
		fmt.Fprintf(os.Stderr, "pmtulab: %5.1f s  %s\n", at, text)
		return
	}
	// A line that wraps could not be taken back.
	line := []rune(fmt.Sprintf("%5.1f s  %s", at, strings.Join(strings.Fields(text), " ")))
	fmt.Fprintf(os.Stderr, "\r\x1b[K%s", string(line[:min(len(line), p.width-1)]))
}

func (p *progress) clear() {
	if p.terminal {
		fmt.Fprint(os.Stderr, "\r\x1b[K")
	}
}
