// The result as one HTML file that needs no network and no script.

package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/pmtulab/pmtulab/lab/ladder"
	"github.com/pmtulab/pmtulab/lab/record"
)

var (
	//go:embed page/page.html
	pageTemplate string
	//go:embed page/ladder.svg
	ladderTemplate string
	//go:embed page/style.css
	pageStyle string
	//go:embed page/comfort.js
	pageScript string
)

// mostEvents bounds the list of events, and with it the size of the page.
const mostEvents = 2000

// HTML writes r as a single file: it makes no network request and can be read
// without scripts. Everything in r is escaped. A policy within the page forbids
// all but its own style and script.
func HTML(w io.Writer, r record.Result) error {
	p := newPage(r)
	return p.write(w)
}

// write renders p.
func (p page) write(w io.Writer) error {
	t, err := template.New("page").Funcs(template.FuncMap{
		"ms": shortMs, "after": after, "upper": upper, "severity": severity, "lifetime": lifetime, "mss": mss, "socket": socketText,
		"join": func(names []string) string { return strings.Join(names, ", ") },
	}).Parse(pageTemplate)
	if err == nil {
		_, err = t.New("ladder").Parse(ladderTemplate)
	}
	if err != nil {
		return fmt.Errorf("read the template of the page: %w", err)
	}
	// The page is made whole first: a template that fails leaves no half of it.
	var out bytes.Buffer
	if err := t.Execute(&out, p); err != nil {
		return fmt.Errorf("make the page: %w", err)
	}
	if _, err := w.Write(out.Bytes()); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

// page is what the template shows.
type page struct {
	record.Result
	Style  template.CSS
	Script template.JS
	// Policy allows Style and Script by their hashes, and nothing else.
	Policy string
	// Place is where the run was made, Lede the run in a sentence, Command
	// what makes it again.
	Place, Lede, Command string
	Unmet                []record.Expectation
	// Watched says which kernel functions were.
	Watched []string
	// Spans are the requests on one scale of Scale, Ticks the marks on it.
	Spans []ladder.Span
	Ticks []mark
	// Of a series: Strips are the latencies of its runs, SeriesTicks the marks
	// on their scale, and Run says which run the rest of the page shows.
	Strips      []strip
	SeriesTicks []mark
	Run         string
	// Cards are the requests one by one.
	Cards []card
	// Moved are the counters of the story that moved, Still those that did
	// not, All everything that moved.
	Moved, All []movement
	Still      []string
	Events     []eventRow
	// Cut counts the events that there was no room for.
	Cut int
	// listed are the ids that links can lead to.
	listed map[string]bool
}

// mark is a label on a scale.
type mark struct {
	X     ladder.Percent
	Label string
}

// movement is a row of the table of counters, with a column for each request.
type movement struct {
	Node, Name string
	Changes    []int64
}

func newPage(r record.Result) page {
	p := page{
		Result: r, Style: template.CSS(pageStyle), Script: template.JS(pageScript),
		Policy: fmt.Sprintf("default-src 'none'; style-src '%s'; script-src '%s'; base-uri 'none'; form-action 'none'", hash(pageStyle), hash(pageScript)),
		Place:  place(r.Runtime), Lede: lede(r), Command: Command(r), Unmet: unmet(r),
		listed: map[string]bool{},
	}
	p.events()
	p.Watched = probes(p.Probes)
	var length record.Ms
	p.Spans, length = ladder.Scale(r)
	p.Ticks = scaleMarks(length)
	for i, q := range r.Requests {
		p.Cards = append(p.Cards, p.card(i, q))
	}
	if !slices.ContainsFunc(p.Cards, func(c card) bool { return !c.Folded }) && len(p.Cards) > 0 {
		p.Cards[0].Folded = false
	}
	p.counters()
	return p
}

// hash is a source of a content security policy: CSP level 2, §4.2.5.
func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// scaleMarks are some round times on a scale of the given length.
func scaleMarks(length record.Ms) []mark {
	if length <= 0 {
		return nil
	}
	step := record.Ms(1e-3)
	for i := 0; step*4 < length; i++ {
		step *= []record.Ms{2, 2.5, 2}[i%3] // 1, 2, 5, 10
	}
	var marks []mark
	for at := record.Ms(0); at <= length && len(marks) < 6; at += step {
		marks = append(marks, mark{onScale(at, length), fmt.Sprintf("%g", at)})
	}
	return marks
}

// onScale is where m is on a scale of the given length.
func onScale(m, length record.Ms) ladder.Percent {
	return min(100, max(0, ladder.Percent(100*m/length)))
}

func (p *page) counters() {
	names := (&terminal{Result: p.Result}).counterNames()
	moved := map[string]bool{}
	for _, m := range movements(p.Requests) {
		p.All = append(p.All, m)
		if slices.Contains(names, m.Name) {
			p.Moved = append(p.Moved, m)
			moved[m.Name] = true
		}
	}
	slices.SortStableFunc(p.Moved, func(a, b movement) int { return slices.Index(names, a.Name) - slices.Index(names, b.Name) })
	for _, name := range names {
		if !moved[name] {
			p.Still = append(p.Still, name)
		}
	}
}

// movements has a row for each counter that moved during a request.
func movements(requests []record.Request) []movement {
	rows := map[[2]string]movement{}
	for i, q := range requests {
		for node, counters := range q.Counters {
			for name, n := range counters {
				key := [2]string{node, name}
				row, ok := rows[key]
				if !ok {
					row = movement{node, name, make([]int64, len(requests))}
				}
				row.Changes[i] = n
				rows[key] = row
			}
		}
	}
	return slices.SortedFunc(maps.Values(rows), func(a, b movement) int {
		return strings.Compare(a.Node+"\x00"+a.Name, b.Node+"\x00"+b.Name)
	})
}

// unmet are the expectations that were not met.
func unmet(r record.Result) []record.Expectation {
	var out []record.Expectation
	for _, x := range r.Expectations {
		if !x.OK {
			out = append(out, x)
		}
	}
	return out
}

// Met says how many expectations were met.
func (p page) Met() string {
	return fmt.Sprintf("%d of %d met", len(p.Expectations)-len(p.Unmet), len(p.Expectations))
}

// Kinds are the kinds of rows with an arrow.
func (p page) Kinds() []ladder.Kind {
	return []ladder.Kind{ladder.Data, ladder.Again, ladder.Reply, ladder.ICMP, ladder.Refused}
}

// Seconds is how long the run took.
func (p page) Seconds() float64 { return float64(p.Duration) / 1000 }

// Share is m on the scale of the longest phase.
func (p page) Share(m record.Ms) ladder.Percent {
	longest := m
	for _, phase := range p.Phases {
		longest = max(longest, phase.Ms)
	}
	if m <= 0 {
		return 0
	}
	return onScale(m, longest)
}

// Table is what the template of a table of counters needs.
func (p page) Table(rows []movement) counterTable { return counterTable{p.Requests, rows} }

type counterTable struct {
	Requests []record.Request
	Rows     []movement
}

func upper(v record.Verdict) string { return strings.ToUpper(string(v)) }

// severity is the colour of a class or a verdict, as a class of the style.
func severity(of any) string {
	switch of {
	case record.Clean, record.Pass:
		return "good"
	case record.PMTURetransmit, record.Rescued, record.Fragmented, record.Inconclusive, record.Unsupported:
		return "fair"
	default:
		return "bad"
	}
}

// shortMs is m with the digits that matter.
func shortMs(m record.Ms) string {
	switch {
	case m < 0.1 && m > 0:
		return fmt.Sprintf("%.2f ms", m)
	case m < 100:
		return fmt.Sprintf("%.1f ms", m)
	default:
		return fmt.Sprintf("%.0f ms", m)
	}
}

// after is a moment after the write, with the digits that there is room for.
func after(m record.Ms) string {
	if m < 100 {
		return fmt.Sprintf("%+.2f", m)
	}
	return fmt.Sprintf("%+.1f", m)
}
