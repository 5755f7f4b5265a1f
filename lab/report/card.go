// One request of the page: what led to its class, beside its picture.

package report

import (
	"fmt"
	"regexp"

	"github.com/pmtulab/pmtulab/lab/ladder"
	"github.com/pmtulab/pmtulab/lab/record"
)

// card is one request with its picture.
type card struct {
	record.Request
	// Index is its place among the requests, from 0.
	Index  int
	Wire   record.Leg
	Ladder ladder.Ladder
	Rows   []row
	Gaps   []gap
	// Reasons are those of the class, with links to the events.
	Reasons [][]phrase
	Waits   []wait
	// Folded tells that there is little to see.
	Folded bool
}

// wait is a part of a stall with links to its evidence.
type wait struct {
	record.Wait
	Evidence [][]phrase
}

// row is a row of the picture with a link to its event.
type row struct {
	ladder.Row
	Event []phrase
}

// gap is a break of the time axis with its text.
type gap struct {
	ladder.Gap
	Lines []gapLine
}

// gapLine is a line of text; Class is one of the style.
type gapLine struct {
	Y       float64
	Class   string
	Phrases []phrase
}

// phrase is a part of a text; Event is the event that it names, or empty.
type phrase struct{ Text, Event string }

func (p *page) card(i int, q record.Request) card {
	c := card{Request: q, Index: i, Wire: q.Connection.Wire(), Ladder: ladder.Draw(p.Result, q), Folded: q.Class == record.Clean}
	for _, r := range c.Ladder.Rows {
		c.Rows = append(c.Rows, row{r, p.linked(r.ID)})
	}
	for _, g := range c.Ladder.Gaps {
		c.Gaps = append(c.Gaps, p.gap(g))
	}
	for _, reason := range q.ClassReasons {
		c.Reasons = append(c.Reasons, p.linked(reason))
	}
	for _, s := range p.Stalls {
		if s.Request != q.Name {
			continue
		}
		for _, w := range s.Waits {
			linked := wait{Wait: w}
			for _, id := range w.Evidence {
				linked.Evidence = append(linked.Evidence, p.linked(id))
			}
			c.Waits = append(c.Waits, linked)
		}
	}
	return c
}

// gap says in a few short lines what a break of the axis stands for.
func (p *page) gap(g ladder.Gap) gap {
	const lineHeight = 14.0
	out := gap{Gap: g}
	say := func(class, format string, args ...any) {
		out.Lines = append(out.Lines, gapLine{Class: class, Phrases: p.linked(fmt.Sprintf(format, args...))})
	}
	if g.Wait != nil {
		say("big waited", "%s", shortMs(g.Wait.Ms))
		for _, words := range waitWords(g.Wait.Kind) {
			say("", "%s", words)
		}
	} else {
		say("big", "%s", shortMs(g.Ms))
		say("", "no packet")
	}
	if g.Timer != nil {
		if g.Wait == nil || g.Wait.Kind != record.WaitProbe0 {
			say("faint", "%s timer:", g.Timer.Socket.Timer)
		}
		say("faint", "%.0f ms left at %s", g.Timer.Socket.Expires, g.Timer.ID)
	}
	if g.Wait != nil && g.Count > 1 {
		say("faint", "%d samples %s–%s", g.Count, g.First.ID, g.Last.ID)
	}
	for i := range out.Lines {
		out.Lines[i].Y = g.Y() + 4 + lineHeight*(float64(i)-float64(len(out.Lines)-1)/2)
	}
	return out
}

// eventID is how events are named in texts: the letter of a source, a number.
var eventID = regexp.MustCompile(`\b[A-Z][0-9]+\b`)

// linked cuts a text at the events that it names and that the page lists.
func (p *page) linked(text string) []phrase {
	var out []phrase
	at := 0
	for _, m := range eventID.FindAllStringIndex(text, -1) {
		if id := text[m[0]:m[1]]; p.listed[id] {
			out = append(out, phrase{Text: text[at:m[0]]}, phrase{Text: id, Event: id})
			at = m[1]
		}
	}
	return append(out, phrase{Text: text[at:]})
}

// waitWords names what was waited for, in two short lines.
func waitWords(kind record.WaitKind) []string {
	switch kind {
	case record.WaitProbe0:
		return []string{"probe0 timer,", "nothing in flight"}
	case record.WaitDelayedAck:
		return []string{"the receiver’s", "delayed ACK"}
	case record.WaitRetransmit:
		return []string{"retransmission", "timer"}
	case record.WaitRTT:
		return []string{"round trip"}
	default:
		return []string{"unexplained"}
	}
}
