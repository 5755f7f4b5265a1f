package report

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/pmtulab/pmtulab/lab/record"
)

func renderSeries(t *testing.T, s record.Series) string {
	t.Helper()
	var out bytes.Buffer
	if err := SeriesHTML(&out, s); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestSeriesPage(t *testing.T) {
	for name, s := range allSeries(t) {
		page := renderSeries(t, s)
		sound(t, page)
		if len(page) > 1<<20 {
			t.Errorf("%s: %d bytes", name, len(page))
		}
		var out bytes.Buffer
		if err := SeriesMarkdown(&out, s); err != nil {
			t.Fatal(err)
		}
		golden(t, name+".md", out.Bytes())
		for _, want := range []string{
			fmt.Sprintf("run %d of %d", s.Telling, len(s.Runs)), fmt.Sprintf("--repeat %d", s.Wanted), strings.ToUpper(string(s.Verdict)),
		} {
			if !strings.Contains(page, want) {
				t.Errorf("%s: the page does not show %q", name, want)
			}
		}
		for i := range s.Runs {
			hostile(reflect.ValueOf(&s.Runs[i]).Elem(), `"><script>alert(1)</script>`)
		}
		hostile(reflect.ValueOf(&s.Requests).Elem(), `"><script>alert(1)</script>`)
		sound(t, renderSeries(t, s))
	}
	goldenPage(t, "series-mixed", renderSeries(t, allSeries(t)["series-mixed"]))
}

// Every class of every request has a strip, and as many lines as its runs have
// places on the scale.
func TestStrips(t *testing.T) {
	s := allSeries(t)["series-mixed"]
	var p page
	p.strips(s)
	classes := 0
	for _, q := range s.Requests {
		classes += len(q.Classes)
	}
	if len(p.Strips) != classes || len(p.SeriesTicks) < 3 {
		t.Fatalf("%d strips of %d classes, %d ticks", len(p.Strips), classes, len(p.SeriesTicks))
	}
	for _, row := range p.Strips {
		if row.Latency == nil {
			if len(row.Marks) > 0 {
				t.Errorf("%s without response has marks", row.Class)
			}
			continue
		}
		low, high := row.Marks[0].X, row.Marks[0].X
		for _, m := range row.Marks {
			low, high = min(low, m.X), max(high, m.X)
		}
		if n := len(row.Marks); n == 0 || n > row.Runs || row.Median < low || row.Median > high+0.25 || high > 100 {
			t.Errorf("%s: %d marks of %d runs from %s to %s, median %s", row.Class, n, row.Runs, low, high, row.Median)
		}
	}
}

func TestSeriesLede(t *testing.T) {
	for want, s := range map[string]record.Series{
		"No request was made in 2 runs.": {Runs: make([]record.Result, 2)},
		"Of 3 runs, request A was clean in 3; B was pmtu-stall in 2 and rescued in 1.": {
			Runs: make([]record.Result, 3),
			Requests: []record.RequestSeries{
				{Name: "A", Classes: []record.ClassShare{{Class: record.Clean, Runs: 3}}},
				{Name: "B", Classes: []record.ClassShare{{Class: record.PMTUStall, Runs: 2}, {Class: record.Rescued, Runs: 1}}},
			},
		},
	} {
		if got := seriesLede(s); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestSeriesWriteErrors(t *testing.T) {
	s := allSeries(t)["series-pass"]
	for name, err := range map[string]error{"HTML": SeriesHTML(fullDisk{}, s), "Markdown": SeriesMarkdown(fullDisk{}, s)} {
		if !errors.Is(err, errFull) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The page of a series tells the same of its telling run as a page of its own.
func TestSeriesShowsTheTellingRun(t *testing.T) {
	s := allSeries(t)["series-mixed"]
	rows := func(page string) int {
		n := 0
		for _, e := range elements(t, page) {
			if e.Type == html.ElementNode && e.Data == "tr" && attribute(e, "id") != "" {
				n++
			}
		}
		return n
	}
	if a, b := rows(renderSeries(t, s)), rows(render(t, s.Runs[s.Telling-1])); a != b || a == 0 {
		t.Errorf("%d events in the page of the series, %d in that of the run", a, b)
	}
}
