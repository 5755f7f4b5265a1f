//go:build linux

// This file lets tests say what they need.

package lab

import "github.com/pmtulab/pmtulab/lab/capability"

// Require lets a test go on when err is nil. Where err, of Probe, Missing or Up,
// says only that this machine lacks something, the test is skipped, or fails
// when PMTULAB_REQUIRE lists one of the capabilities by Need.Name, or is "all".
// Any other error fails the test. In Ginkgo t is GinkgoT().
func Require(t capability.TB, err error) {
	t.Helper()
	if err == nil {
		return
	}
	names, alone := missingIn(err)
	if !alone {
		t.Fatalf("%v", err)
	}
	capability.Missing(t, err, names...)
}

// missingIn names the capabilities that err, a tree of errors, says are missing.
// alone tells that it says nothing else.
func missingIn(err error) (names []string, alone bool) {
	switch e := err.(type) { //nolint:errorlint // each node of the tree is looked at
	case *MissingError:
		return []string{e.Name}, true
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			more, alone := missingIn(err)
			if !alone {
				return nil, false
			}
			names = append(names, more...)
		}
		return names, true
	case interface{ Unwrap() error }:
		return missingIn(e.Unwrap())
	default:
		return nil, false
	}
}
