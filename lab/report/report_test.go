package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/pmtulab/pmtulab/lab/record"
)

var update = flag.Bool("update", false, "write the golden files")

// measured is a run of the scenario report as it was recorded, with the events
// of the client only and few of the samples.
func measured(t *testing.T) record.Result {
	t.Helper()
	data, err := os.ReadFile("testdata/report.json")
	if err != nil {
		t.Fatal(err)
	}
	var r record.Result
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		t.Fatal(err)
	}
	return r
}

// results are the recorded run, and what it would be had it ended otherwise.
func results(t *testing.T) map[string]record.Result {
	failed := measured(t)
	failed.Verdict, failed.Reasons = record.Fail, []string{"MSS in the SYN on the upstream leg of connection A: expected 1460, measured 1440"}
	failed.Expectations[6].OK, failed.Expectations[6].Actual = false, "1440"

	inconclusive := measured(t)
	inconclusive.Verdict = record.Inconclusive
	inconclusive.Clock.Jitter, inconclusive.Figures.Steal = 29.8, 40
	inconclusive.Losses = []record.Loss{{Source: "packets", Node: "client", Count: 3, Detail: "the ring was full"}}
	for _, why := range inconclusive.Clock.Unfit() {
		inconclusive.Losses = append(inconclusive.Losses, record.Loss{Source: record.ClockLoss, Count: 1, Detail: why})
	}
	for _, l := range inconclusive.Losses {
		inconclusive.Reasons = append(inconclusive.Reasons, l.String())
	}

	partial := measured(t)
	partial.Verdict, partial.Partial = record.Error, true
	partial.Reasons = []string{"step 4: request A: connection reset by peer"}
	partial.Requests, partial.Stalls, partial.Expectations = partial.Requests[:1], nil, []record.Expectation{}
	partial.Requests[0].Status, partial.Requests[0].Failure, partial.Requests[0].Class = 0, "connection reset by peer", record.Unclassified

	unsupported := record.Result{
		Schema: record.Schema, Scenario: "report", Verdict: record.Unsupported, Partial: true,
		Runtime: record.Runtime{On: "host", Kernel: "6.1.0", Accelerator: "none", Reason: "--on host"},
		Reasons: []string{"build the network: missing IPVS; remedy: load the kernel module ip_vs, or run in a guest"},
	}
	return map[string]record.Result{
		"pass": measured(t), "fail": failed, "inconclusive": inconclusive, "partial": partial, "unsupported": unsupported,
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func TestTerminal(t *testing.T) {
	for name, r := range results(t) {
		t.Run(name, func(t *testing.T) {
			text(t, name, func(w io.Writer, s Style) error { return Terminal(w, r, s) })
		})
	}
}

// sgr is an escape sequence that changes the looks of text.
var sgr = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// text holds a renderer to its golden file, 100 columns wide, and to the width
// of other terminals.
func text(t *testing.T, name string, render func(io.Writer, Style) error) {
	t.Helper()
	show := func(s Style) []byte {
		var out bytes.Buffer
		if err := render(&out, s); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	golden(t, name+".txt", show(Style{}))
	golden(t, name+"-80.txt", show(Style{Width: 80}))
	for _, width := range []int{80, 93, 100, 120} {
		for line := range strings.Lines(string(show(Style{Width: width}))) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width {
				t.Errorf("a line of %d columns, %d are there: %s", n, width, line)
			}
		}
	}
	colored, plain := show(Style{Width: 80, Color: true}), show(Style{Width: 80})
	if !bytes.Contains(colored, []byte("\x1b[")) || !bytes.Equal(sgr.ReplaceAll(colored, nil), plain) {
		t.Errorf("colours change more than the looks:\n%s", colored)
	}
}

func TestJUnit(t *testing.T) {
	for name, r := range results(t) {
		var out bytes.Buffer
		if err := JUnit(&out, r); err != nil {
			t.Fatal(err)
		}
		golden(t, name+".xml", out.Bytes())
		var suite struct {
			Tests    int `xml:"tests,attr"`
			Failures int `xml:"failures,attr"`
			Errors   int `xml:"errors,attr"`
			Skipped  int `xml:"skipped,attr"`
		}
		if err := xml.Unmarshal(out.Bytes(), &suite); err != nil {
			t.Fatal(err)
		}
		good := suite.Tests > 0 && suite.Failures+suite.Errors+suite.Skipped == 0
		if good != (r.Verdict == record.Pass) {
			t.Errorf("%s: verdict %s, but the suite is %+v", name, r.Verdict, suite)
		}
	}
}

// What JSON writes reads back as the same result.
func TestJSON(t *testing.T) {
	for name, r := range results(t) {
		var out bytes.Buffer
		if err := JSON(&out, r); err != nil {
			t.Fatal(err)
		}
		var back record.Result
		if err := json.Unmarshal(out.Bytes(), &back); err != nil {
			t.Fatal(err)
		}
		var again bytes.Buffer
		if err := JSON(&again, back); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(out.String(), again.String()); diff != "" {
			t.Errorf("%s changes when it is read back:\n%s", name, diff)
		}
	}
}
