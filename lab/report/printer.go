package report

import (
	"fmt"
	"io"
	"strings"

	"charm.land/lipgloss/v2"

	"github.com/pmtulab/pmtulab/lab/record"
)

// Style is how text for people looks.
type Style struct {
	// Color turns colours on.
	Color bool
	// Width is how many columns lines may take; 0 is 100.
	Width int
}

// printer gathers text for people.
type printer struct {
	Style
	out strings.Builder
}

func newPrinter(s Style) *printer {
	if s.Width == 0 {
		s.Width = 100
	}
	return &printer{Style: s}
}

// Colours of the terminal's own palette, so that they suit its background.
const (
	red    = "1"
	green  = "2"
	yellow = "3"
)

func (p *printer) paint(color, s string) string {
	if !p.Color {
		return s
	}
	return lipgloss.NewStyle().Foreground(lipgloss.Color(color)).Render(s)
}

func (p *printer) bold(s string) string {
	if !p.Color {
		return s
	}
	return lipgloss.NewStyle().Bold(true).Render(s)
}

func (p *printer) faint(s string) string {
	if !p.Color {
		return s
	}
	return lipgloss.NewStyle().Faint(true).Render(s)
}

// verdict is v in the colour that it has everywhere.
func (p *printer) verdict(v record.Verdict) string {
	word := strings.ToUpper(string(v))
	switch v {
	case record.Pass:
		return p.paint(green, word)
	case record.Fail, record.Error:
		return p.paint(red, word)
	default:
		return p.paint(yellow, word)
	}
}

// class is c in the colour that it has everywhere.
func (p *printer) class(c record.Class) string {
	switch c {
	case record.Clean:
		return p.paint(green, string(c))
	case record.PMTURetransmit, record.Rescued, record.Fragmented:
		return p.paint(yellow, string(c))
	default:
		return p.paint(red, string(c))
	}
}

// line writes one line, broken at spaces where it is too long; what is left of
// it goes further in.
func (p *printer) line(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	plain := strings.TrimLeft(text, " ")
	p.hang(len(text)-len(plain)+2, text)
}

// hang writes text like line, with the columns that its continuation begins after.
func (p *printer) hang(indent int, text string) {
	l, width := "", 0
	for i, word := range strings.Split(text, " ") {
		w := lipgloss.Width(word)
		if i > 0 && width+1+w > p.Width && strings.TrimSpace(l) != "" {
			p.out.WriteString(strings.TrimRight(l, " ") + "\n")
			l, width = strings.Repeat(" ", indent)+word, indent+w
			continue
		}
		if i > 0 {
			l, width = l+" ", width+1
		}
		l, width = l+word, width+w
	}
	p.out.WriteString(l + "\n")
}

// section writes a title and lines below it; nothing without lines.
func (p *printer) section(title string, lines ...string) {
	if len(lines) == 0 {
		return
	}
	p.line("\n%s", p.bold(title))
	for _, l := range lines {
		p.line("  %s", l)
	}
}

// paragraphs is section for whole sentences.
func (p *printer) paragraphs(title string, texts ...string) {
	if len(texts) == 0 {
		return
	}
	p.line("\n%s", p.bold(title))
	for _, text := range texts {
		p.hang(2, "  "+strings.Join(strings.Fields(text), " "))
	}
}

// table writes rows in columns, the first row as a heading. Columns from right on
// are numbers. A row may end early.
func (p *printer) table(rows [][]string, right int) {
	for _, l := range p.tableLines(rows, right) {
		p.line("%s", l)
	}
}

// tableLines are the lines of a table.
func (p *printer) tableLines(rows [][]string, right int) []string {
	widths := columnWidths(rows)
	var lines []string
	for n, row := range rows {
		text := ""
		for i, cell := range row {
			padding := strings.Repeat(" ", widths[i]-lipgloss.Width(cell))
			if i >= right {
				text += "  " + padding + cell
			} else {
				text += "  " + cell + padding
			}
		}
		text = strings.TrimRight(text, " ")
		if n == 0 {
			text = p.faint(text)
		}
		lines = append(lines, text)
	}
	return lines
}

func columnWidths(rows [][]string) []int {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], lipgloss.Width(cell))
		}
	}
	return widths
}

// tableWidth is how many columns of the terminal a table takes.
func tableWidth(rows [][]string) int {
	total := 0
	for _, w := range columnWidths(rows) {
		total += 2 + w
	}
	return total
}

// writeTo ends the text.
func (p *printer) writeTo(w io.Writer) error {
	if _, err := io.WriteString(w, p.out.String()); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}
