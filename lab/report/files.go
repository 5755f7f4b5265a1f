package report

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"

	"github.com/pmtulab/pmtulab/lab/record"
)

// JSON writes r in its published form, in which a list or mapping without
// elements is empty, never null.
func JSON(w io.Writer, r record.Result) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(withoutNulls(r)); err != nil {
		return fmt.Errorf("write the result: %w", err)
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
	type message struct {
		Message string `xml:"message,attr"`
	}
	type testcase struct {
		Name    string   `xml:"name,attr"`
		Class   string   `xml:"classname,attr"`
		Failure *message `xml:"failure,omitempty"`
		Error   *message `xml:"error,omitempty"`
		Skipped *message `xml:"skipped,omitempty"`
	}
	suite := struct {
		XMLName  xml.Name   `xml:"testsuite"`
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Errors   int        `xml:"errors,attr"`
		Skipped  int        `xml:"skipped,attr"`
		Time     string     `xml:"time,attr"`
		Cases    []testcase `xml:"testcase"`
	}{Name: r.Scenario, Time: fmt.Sprintf("%.3f", r.Duration/1000)}
	class := fmt.Sprintf("%s on Linux %s", r.Scenario, r.Runtime.Kernel)
	for _, x := range r.Expectations {
		c := testcase{Name: x.Name, Class: class}
		if !x.OK {
			c.Failure = &message{fmt.Sprintf("expected %s, measured %s", x.Limit, x.Actual)}
			suite.Failures++
		}
		suite.Cases = append(suite.Cases, c)
	}
	for _, reason := range r.Reasons {
		switch r.Verdict {
		case record.Error, record.Inconclusive:
			suite.Cases = append(suite.Cases, testcase{Name: string(r.Verdict), Class: class, Error: &message{reason}})
			suite.Errors++
		case record.Unsupported:
			suite.Cases = append(suite.Cases, testcase{Name: string(r.Verdict), Class: class, Skipped: &message{reason}})
			suite.Skipped++
		}
	}
	suite.Tests = len(suite.Cases)
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return fmt.Errorf("write the JUnit report: %w", err)
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(suite); err != nil {
		return fmt.Errorf("write the JUnit report: %w", err)
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		return fmt.Errorf("write the JUnit report: %w", err)
	}
	return nil
}
