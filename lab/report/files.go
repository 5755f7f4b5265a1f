package report

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"

	"github.com/pmtulab/pmtulab/lab/record"
)

// JSON writes a value of package record in its published form, in which a list or
// mapping without elements is empty, never null.
func JSON[T any](w io.Writer, v T) error {
	var published any = v
	switch v := published.(type) {
	case record.Result:
		published = withoutNulls(v)
	case record.Series:
		v.Runs = orEmpty(v.Runs)
		for i := range v.Runs {
			v.Runs[i] = withoutNulls(v.Runs[i])
		}
		published = v
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(published); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}

func withoutNulls(r record.Result) record.Result {
	r.Requests, r.Stalls = orEmpty(r.Requests), orEmpty(r.Stalls)
	r.Exceptions, r.Expectations = orEmpty(r.Exceptions), orEmpty(r.Expectations)
	if r.Counters == nil {
		r.Counters = map[string]map[string]int64{}
	}
	for i := range r.Requests {
		r.Requests[i].ClassReasons = orEmpty(r.Requests[i].ClassReasons)
	}
	for i := range r.Stalls {
		waits := orEmpty(r.Stalls[i].Waits)
		for j := range waits {
			waits[j].Evidence = orEmpty(waits[j].Evidence)
		}
		r.Stalls[i].Waits = waits
	}
	return r
}

// orEmpty is a copy of list that is not nil.
func orEmpty[T any](list []T) []T { return append(make([]T, 0, len(list)), list...) }

// JUnit writes the expectations of r as a JUnit test suite, one case for each,
// and one more for a run that ended with neither pass nor fail.
func JUnit(w io.Writer, r record.Result) error {
	suite := newSuite(r.Scenario, r.Runtime, r.Duration)
	for _, x := range r.Expectations {
		var failure string
		if !x.OK {
			failure = fmt.Sprintf("expected %s, measured %s", x.Limit, x.Actual)
		}
		suite.expectation(x.Name, failure)
	}
	suite.verdict(r.Verdict, r.Reasons)
	return suite.write(w)
}

// SeriesJUnit is JUnit for a series: an expectation fails that was not met in
// every run.
func SeriesJUnit(w io.Writer, s record.Series) error {
	suite := newSuite(s.Scenario, s.Runtime, s.Duration)
	for _, x := range s.Expectations {
		var failure string
		if x.Met < x.Runs {
			failure = fmt.Sprintf("expected %s, not met in %d of %d runs; run %d measured %s", x.Limit, x.Runs-x.Met, x.Runs, x.FirstUnmet, x.Actual)
		}
		suite.expectation(x.Name, failure)
	}
	suite.verdict(s.Verdict, s.Reasons)
	return suite.write(w)
}

// testSuite is the root of a JUnit file.
type testSuite struct {
	XMLName  xml.Name   `xml:"testsuite"`
	Name     string     `xml:"name,attr"`
	Tests    int        `xml:"tests,attr"`
	Failures int        `xml:"failures,attr"`
	Errors   int        `xml:"errors,attr"`
	Skipped  int        `xml:"skipped,attr"`
	Time     string     `xml:"time,attr"`
	Cases    []testCase `xml:"testcase"`
	class    string
}

type testCase struct {
	Name    string       `xml:"name,attr"`
	Class   string       `xml:"classname,attr"`
	Time    string       `xml:"time,attr,omitempty"`
	Failure *testMessage `xml:"failure,omitempty"`
	Error   *testMessage `xml:"error,omitempty"`
	Skipped *testMessage `xml:"skipped,omitempty"`
}

type testMessage struct {
	Message string `xml:"message,attr"`
}

func newSuite(scenario string, on record.Runtime, took record.Ms) *testSuite {
	return &testSuite{
		Name: scenario, Time: fmt.Sprintf("%.3f", took/1000), class: fmt.Sprintf("%s on Linux %s", scenario, on.Kernel),
	}
}

// expectation adds a case; failure is empty when it was met.
func (s *testSuite) expectation(name, failure string) {
	c := testCase{Name: name, Class: s.class}
	if failure != "" {
		c.Failure = &testMessage{failure}
		s.Failures++
	}
	s.Cases = append(s.Cases, c)
}

// verdict adds a case for each reason of a verdict that is neither pass nor fail.
func (s *testSuite) verdict(v record.Verdict, reasons []string) {
	for _, reason := range reasons {
		c := testCase{Name: string(v), Class: s.class}
		switch v {
		case record.Error, record.Inconclusive:
			c.Error = &testMessage{reason}
			s.Errors++
		case record.Unsupported:
			c.Skipped = &testMessage{reason}
			s.Skipped++
		default:
			continue
		}
		s.Cases = append(s.Cases, c)
	}
}

func (s *testSuite) write(w io.Writer) error {
	s.Tests = len(s.Cases)
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return fmt.Errorf("write the JUnit report: %w", err)
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(s); err != nil {
		return fmt.Errorf("write the JUnit report: %w", err)
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		return fmt.Errorf("write the JUnit report: %w", err)
	}
	return nil
}
