// The result as a short summary for a CI system, in GitHub's Markdown.

package report

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/pmtulab/pmtulab/lab/record"
)

// Markdown writes a summary of r: the verdict, what became of each request,
// what was not as expected, and why. Everything in r is escaped.
func Markdown(w io.Writer, r record.Result) error {
	m := &summary{}
	m.head(r, lede(r))
	if len(r.Requests) > 0 {
		m.say("\n| request | class | latency | of which waits |\n| --- | --- | ---: | --- |")
	}
	for _, q := range r.Requests {
		latency := "no response"
		if q.Status != 0 {
			latency = shortMs(q.Latency)
		}
		m.say("| %s | %s | %s | %s |", inline(q.Name), inline(string(q.Class)), latency, inline(waitsOf(r, q)))
	}
	m.rest(r, Command(r))
	return m.writeTo(w)
}

// SeriesMarkdown writes a summary of s, as Markdown does of one result.
func SeriesMarkdown(w io.Writer, s record.Series) error {
	r := tellingRun(s)
	m := &summary{}
	m.head(r, seriesLede(s))
	if len(s.Requests) > 0 {
		m.say("\n| request | class | runs | min | median | max |\n| --- | --- | ---: | ---: | ---: | ---: |")
	}
	for _, q := range s.Requests {
		for _, c := range q.Classes {
			latency := "no response | |"
			if d := c.Latency; d != nil {
				latency = fmt.Sprintf("%s | %s | %s", shortMs(d.Min), shortMs(d.P50), shortMs(d.Max))
			}
			m.say("| %s | %s | %d | %s |", inline(q.Name), inline(string(c.Class)), c.Runs, latency)
		}
	}
	if len(r.Conclusion) > 0 {
		r.Conclusion = append([]string{fmt.Sprintf("Run %d, for one:", s.Telling)}, r.Conclusion...)
	}
	m.rest(r, reproduceSeries(s))
	return m.writeTo(w)
}

// summary is Markdown in the making.
type summary struct{ out strings.Builder }

func (m *summary) say(format string, args ...any) { fmt.Fprintf(&m.out, format+"\n", args...) }

// head says what r came to, and what was changed for it.
func (m *summary) head(r record.Result, lede string) {
	partial := ""
	if r.Partial {
		partial = " (partial)"
	}
	m.say("## %s: %s%s\n", inline(r.Scenario), inline(upper(r.Verdict)), partial)
	m.say("%s\n", inline(lede))
	m.say("Linux %s on %s, %.2f s", inline(r.Runtime.Kernel), inline(place(r.Runtime)), r.Duration/1000)
	if r.Verdict != record.Fail || len(unmet(r)) != len(r.Reasons) { // else the table of expectations says it
		for _, reason := range r.Reasons {
			m.say("\n> %s", inline(reason))
		}
	}
	for _, change := range r.Mitigations {
		when := "before any connection"
		if change.Live {
			when = "while connections were open"
		}
		m.say("\nChanged %s: %s\n\n%s", when, inline(change.Name), fenced(change.Command))
	}
}

// rest says what was not as expected, what is missing, and why it happened.
func (m *summary) rest(r record.Result, command string) {
	if differs := unmet(r); len(differs) > 0 {
		m.say("\n### Not as expected\n\n| what | expected | measured |\n| --- | --- | --- |")
		for _, x := range differs {
			m.say("| %s | %s | %s |", inline(x.Name), inline(x.Limit), inline(x.Actual))
		}
	} else if n := len(r.Expectations); n > 0 {
		m.say("\nAll %d expectations were met.", n)
	}
	for _, l := range r.Losses {
		if reason := l.String(); !slices.Contains(r.Reasons, reason) {
			m.say("\n%s", inline(reason))
		}
	}
	for _, sentence := range r.Conclusion {
		m.say("\n%s", inline(sentence))
	}
	m.say("\n%s", fenced(command))
}

func (m *summary) writeTo(w io.Writer) error {
	if _, err := io.WriteString(w, m.out.String()); err != nil {
		return fmt.Errorf("write the Markdown summary: %w", err)
	}
	return nil
}

// waitsOf lists the waits of q.
func waitsOf(r record.Result, q record.Request) string {
	var waits []string
	for _, s := range r.Stalls {
		for _, w := range s.Waits {
			if s.Request == q.Name && w.Kind != record.WaitRTT {
				waits = append(waits, shortMs(w.Ms)+" "+string(w.Kind))
			}
		}
	}
	return strings.Join(waits, ", ")
}

// longest is how many runes of one text the summary shows.
const longest = 1000

// markup are the characters that mean something within a line of Markdown. A
// backslash takes that from any of them: CommonMark §2.4.
var markup = strings.NewReplacer(
	`\`, `\\`, "`", "\\`", `*`, `\*`, `_`, `\_`, `[`, `\[`, `]`, `\]`, `<`, `\<`, `>`, `\>`, `|`, `\|`, `~`, `\~`, `&`, `\&`, `#`, `\#`,
	`://`, `:\//`, `www.`, `www\.`, // GitHub makes links of these
)

// inline is text as one line that is only text.
func inline(text string) string {
	text = markup.Replace(cut(strings.Join(strings.Fields(text), " ")))
	return opening.ReplaceAllString(text, `$1\$2$3`)
}

// opening is what would make a list or a rule of a line that it begins.
var opening = regexp.MustCompile(`^([0-9]*)([-+.)])([- ]|$)`)

// fenced is text as a block of code; the fence is longer than any within.
func fenced(text string) string {
	fence := "```"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	return fence + "\n" + cut(text) + "\n" + fence
}

func cut(text string) string {
	if runes := []rune(text); len(runes) > longest {
		return string(runes[:longest]) + " …"
	}
	return text
}
