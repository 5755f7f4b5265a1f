//go:build linux

// This file brings labs up for tests.

package lab

import (
	"context"

	"github.com/pmtulab/pmtulab/lab/capability"
	"github.com/pmtulab/pmtulab/topology"
)

// TB is what Start needs of a test. *testing.T, *testing.B and *testing.F have
// it, and so has what Ginkgo's GinkgoT() returns.
type TB interface {
	capability.TB
	Errorf(format string, args ...any)
	Cleanup(func())
}

// Start brings a network up for a test and takes it down when the test, or the
// Ginkgo node, has ended. A machine that lacks something skips the test, or fails
// it, as Require says. Any other error of Up fails it, and so does one of Close.
//
// What a test does inside a node (Node.Do) may fail it there: FailNow is carried
// over to the goroutine of the test.
func Start(ctx context.Context, t TB, spec topology.Spec) *Lab {
	t.Helper()
	l, err := Up(ctx, spec)
	Require(t, err)
	t.Cleanup(func() {
		t.Helper()
		if err := l.Close(); err != nil {
			t.Errorf("take %s down: %v", spec.Name, err)
		}
	})
	return l
}
