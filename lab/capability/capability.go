// Package capability decides what a test does when the machine lacks something
// that it needs. Tests of networks use lab.Require, which builds on it.
package capability

import (
	"os"
	"slices"
	"strings"
)

// RequireEnv names the environment variable that turns skips into failures: it
// lists capabilities by name, with commas between them, or is "all".
const RequireEnv = "PMTULAB_REQUIRE"

// TB is the part of a test that is needed: a *testing.T, *testing.B or
// *testing.F has it, and so has what Ginkgo's GinkgoT() returns.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// Missing ends a test for the lack of the named capabilities, of which err tells:
// it fails when PMTULAB_REQUIRE lists one of them and is skipped otherwise.
func Missing(t TB, err error, names ...string) {
	t.Helper()
	value := os.Getenv(RequireEnv)
	required := strings.Split(value, ",")
	for _, name := range append(names, "all") {
		if slices.Contains(required, name) {
			t.Fatalf("%s=%s: %v", RequireEnv, value, err)
		}
	}
	t.Skipf("%v", err)
}
