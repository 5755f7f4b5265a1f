package report

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/pmtulab/pmtulab/lab/record"
)

func TestMarkdown(t *testing.T) {
	for _, name := range []string{"pass", "fail", "inconclusive", "partial", "unsupported", "question-4", "black-hole"} {
		var out bytes.Buffer
		if err := Markdown(&out, pages(t)[name]); err != nil {
			t.Fatal(err)
		}
		golden(t, name+".md", out.Bytes())
	}
}

func TestMarkdownEscapes(t *testing.T) {
	for text, want := range map[string]string{
		"a|b\n| c |":                     `a\|b \| c \|`,
		"<img src=x onerror=alert(1)>":   `\<img src=x onerror=alert(1)\>`,
		"[here](http://example.org)":     `\[here\](http:\//example.org)`,
		"www.example.org":                `www\.example.org`,
		"`*_~&amp;#\\":                   "\\`\\*\\_\\~\\&amp;\\#\\\\",
		"- item":                         `\- item`,
		"1. item":                        `1\. item`,
		"---":                            `\---`,
		"6.1.176":                        "6.1.176",
		"":                               "",
		strings.Repeat("ä", longest+1):   strings.Repeat("ä", longest) + " …",
		"# heading":                      `\# heading`,
		"1500 − 20 = 1480, under 100 ms": "1500 − 20 = 1480, under 100 ms",
	} {
		if got := inline(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	if got, want := fenced("a\n```\nb"), "````\na\n```\nb\n````"; got != want {
		t.Errorf("fenced: %q, want %q", got, want)
	}
}

// Whatever the texts are, the lines and the columns stay the same.
func TestMarkdownKeepsItsShape(t *testing.T) {
	shape := func(r record.Result) string {
		var out bytes.Buffer
		if err := Markdown(&out, r); err != nil {
			t.Fatal(err)
		}
		var marks strings.Builder
		for line := range strings.Lines(out.String()) {
			if strings.HasPrefix(line, "|") {
				line = strings.ReplaceAll(line, `\|`, "")
				marks.WriteString(strings.Repeat("|", strings.Count(line, "|")) + "\n")
			}
		}
		return marks.String()
	}
	plain, odd := results(t)["fail"], results(t)["fail"]
	hostile(reflect.ValueOf(&plain).Elem(), "x")
	hostile(reflect.ValueOf(&odd).Elem(), "|\\| `<b>` ![x](y)")
	if a, b := shape(plain), shape(odd); a != b {
		t.Errorf("the shape changes from\n%s\nto\n%s", a, b)
	}
}
