// A matrix of scenarios and kernels: what differs between kernels first.

package report

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/pmtulab/pmtulab/lab/matrix"
	"github.com/pmtulab/pmtulab/lab/record"
)

// Matrix writes m as text for people.
func Matrix(w io.Writer, m record.Matrix, style Style) error {
	p := newPrinter(style)
	p.line("%s  %s  %s", p.bold("matrix"), p.verdict(m.Verdict), matrixFigures(m))
	groups := groupsOf(m)
	for _, g := range groups {
		if differing, _ := g.facts(); len(differing) > 1 {
			p.line("\n%s", p.bold(g.name+", what differs between kernels"))
			p.table(differing, len(differing[0]))
		}
	}
	for _, g := range groups {
		p.line("\n%s", p.bold(g.name))
		p.cells(g)
		if _, same := g.facts(); len(same) > 0 {
			p.line("\n%s", p.faint("  the same on all: "+strings.Join(same, "; ")))
		}
	}
	for _, c := range m.Cells {
		if c.Verdict == record.Pass {
			continue
		}
		p.line("\n%s on %s: %s", p.bold(matrix.Label(c)), c.Kernel, p.verdict(c.Verdict))
		for _, reason := range c.Reasons {
			for l := range strings.SplitSeq(reason, "\n") {
				p.hang(4, "  "+l)
			}
		}
		p.line("  %s", p.faint(c.Reproduce))
	}
	if missing := matrix.Missing(m); len(missing) > 0 {
		p.line("\n%s", p.paint(red, missingText(missing)))
	}
	return p.writeTo(w)
}

// cells writes a table of the cells of g, or, where that is too wide, two lines
// for each.
func (p *printer) cells(g group) {
	rows := g.rows(p.verdict)
	last := len(rows[0]) - 1
	const before = 3 // columns before those of requests
	if tableWidth(rows) <= p.Width {
		p.table(rows, last)
		return
	}
	short := [][]string{}
	for _, row := range rows {
		short = append(short, append(slices.Clone(row[:before]), row[last]))
	}
	for i, l := range p.tableLines(short, before) {
		p.line("%s", l)
		var requests []string
		for j, text := range rows[i][before:last] {
			if i > 0 && text != "" {
				requests = append(requests, rows[0][before+j]+" "+text)
			}
		}
		if len(requests) > 0 {
			p.hang(6, "    "+strings.Join(requests, ", "))
		}
	}
}

// MatrixMarkdown writes m for the summary of a CI run. Everything in m is
// escaped.
func MatrixMarkdown(w io.Writer, m record.Matrix) error {
	s := &summary{}
	s.say("## matrix: %s\n\n%s", inline(upper(m.Verdict)), inline(matrixFigures(m)))
	groups := groupsOf(m)
	for _, g := range groups {
		if differing, _ := g.facts(); len(differing) > 1 {
			s.say("\n### %s, what differs between kernels\n", inline(g.name))
			s.table(differing)
		}
	}
	for _, g := range groups {
		s.say("\n### %s\n", inline(g.name))
		s.table(g.rows(upper))
		if _, same := g.facts(); len(same) > 0 {
			s.say("\nThe same on all: %s.", inline(strings.Join(same, "; ")))
		}
	}
	for _, c := range m.Cells {
		if c.Verdict == record.Pass {
			continue
		}
		s.say("\n%s on %s: **%s**", inline(matrix.Label(c)), inline(c.Kernel), inline(upper(c.Verdict)))
		for _, reason := range c.Reasons {
			s.say("\n> %s", inline(reason))
		}
		s.say("\n%s", fenced(c.Reproduce))
	}
	if missing := matrix.Missing(m); len(missing) > 0 {
		s.say("\n%s", missingText(missing))
	}
	return s.writeTo(w)
}

// table writes rows, the first as a heading.
func (m *summary) table(rows [][]string) {
	for i, row := range rows {
		line := "|"
		for _, cell := range row {
			line += " " + inline(cell) + " |"
		}
		m.say("%s", line)
		if i == 0 {
			m.say("%s", "|"+strings.Repeat(" --- |", len(row)))
		}
	}
}

// MatrixJUnit writes m as a JUnit test suite with a case for each cell.
func MatrixJUnit(w io.Writer, m record.Matrix) error {
	s := &testSuite{Name: "matrix", Time: fmt.Sprintf("%.3f", m.Duration/1000)}
	for _, c := range m.Cells {
		x := testCase{Name: matrix.Label(c), Class: "Linux " + c.Kernel, Time: fmt.Sprintf("%.3f", c.Duration/1000)}
		said := &testMessage{strings.Join(append(slices.Clone(c.Reasons), c.Reproduce), "\n")}
		switch c.Verdict {
		case record.Pass:
		case record.Fail, record.Unsupported:
			x.Failure = said
			s.Failures++
		default:
			x.Error = said
			s.Errors++
		}
		s.Cases = append(s.Cases, x)
	}
	for _, i := range matrix.Missing(m) {
		s.Cases = append(s.Cases, testCase{Name: fmt.Sprintf("cell %d", i), Class: "matrix", Error: &testMessage{"no shard has it"}})
		s.Errors++
	}
	return s.write(w)
}

func missingText(missing []int) string {
	return fmt.Sprintf("no shard has %s: %s", plural(len(missing), "cell"), strings.Trim(fmt.Sprint(missing), "[]"))
}

func matrixFigures(m record.Matrix) string {
	kernels := map[string]bool{}
	passed := 0
	for _, c := range m.Cells {
		kernels[c.Kernel] = true
		if c.Verdict == record.Pass {
			passed++
		}
	}
	text := fmt.Sprintf("%d of %s passed, %s, %.1f s", passed, plural(len(m.Cells), "cell"), plural(len(kernels), "kernel"), m.Duration/1000)
	if m.Shard != "" {
		text += fmt.Sprintf(", shard %s of %s", m.Shard, plural(m.Size, "cell"))
	}
	return text
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// group are the cells that differ in their kernel only.
type group struct {
	name  string
	cells []record.Cell
}

func groupsOf(m record.Matrix) []group {
	var out []group
	for _, c := range m.Cells {
		name := matrix.Label(c)
		i := slices.IndexFunc(out, func(g group) bool { return g.name == name })
		if i < 0 {
			i = len(out)
			out = append(out, group{name: name})
		}
		out[i].cells = append(out[i].cells, c)
	}
	return out
}

// rows has a row for each cell under a heading; the last column is a time.
func (g group) rows(verdict func(record.Verdict) string) [][]string {
	var names []string
	for _, c := range g.cells {
		for _, q := range c.Requests {
			if !slices.Contains(names, q.Name) {
				names = append(names, q.Name)
			}
		}
	}
	rows := [][]string{slices.Concat([]string{"kernel", "on", "verdict"}, names, []string{"time"})}
	for _, c := range g.cells {
		on := c.Runtime.On
		if on == "qemu" {
			on = c.Runtime.Accelerator // which says as much
		}
		row := []string{cmp.Or(strings.TrimSuffix(c.Runtime.Kernel, "-cloud-amd64"), c.Kernel), on, verdict(c.Verdict)}
		for _, name := range names {
			text := ""
			if i := slices.IndexFunc(c.Requests, func(q record.CellRequest) bool { return q.Name == name }); i >= 0 {
				q := c.Requests[i]
				text = string(q.Class)
				if q.Latency > 0 { // else there was no response
					text += " " + shortMs(q.Latency)
				}
			}
			row = append(row, text)
		}
		rows = append(rows, append(row, fmt.Sprintf("%.1f s", c.Duration/1000)))
	}
	return rows
}

// facts compares what is no time between the kernels on which the scenario ran
// to its end: a table of what differs, and a list of what does not.
func (g group) facts() (differing [][]string, same []string) {
	var ran []map[string]string
	heading := []string{""}
	names := map[string]bool{}
	for _, c := range g.cells {
		if c.Verdict == record.Error || c.Verdict == record.Unsupported {
			continue
		}
		facts := factsOf(c)
		ran = append(ran, facts)
		heading = append(heading, c.Kernel)
		for name := range facts {
			names[name] = true
		}
	}
	differing = [][]string{heading}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		row := []string{name}
		for _, facts := range ran {
			row = append(row, cmp.Or(facts[name], "–"))
		}
		if len(slices.Compact(slices.Clone(row[1:]))) > 1 {
			differing = append(differing, row)
		} else {
			same = append(same, name+" "+row[1])
		}
	}
	return differing, same
}

func factsOf(c record.Cell) map[string]string {
	out := map[string]string{}
	for _, q := range c.Requests {
		out[q.Name+" class"] = string(q.Class)
		out[q.Name+" MSS out/in"] = fmt.Sprintf("%d/%d", q.MSSOut, q.MSSIn)
	}
	for node, counters := range c.Counters {
		for name, n := range counters {
			out[node+" "+name] = fmt.Sprint(n)
		}
	}
	for node, exceptions := range c.Exceptions {
		for destination, mtu := range exceptions {
			out[fmt.Sprintf("%s exception for %s", node, destination)] = fmt.Sprintf("mtu %d", mtu)
		}
	}
	return out
}
