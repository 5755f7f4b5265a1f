// The command that makes a run again.

package report

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/pmtulab/pmtulab/lab/record"
)

// Command is the command line that makes r again, for the shell. A scenario of one's own goes by
// its name, not its file: the result does not know that.
func Command(r record.Result) string {
	args := []string{"pmtulab", "run", r.Scenario}
	for _, name := range slices.Sorted(maps.Keys(r.Settings)) {
		switch value := r.Settings[name]; name {
		case "with":
			mitigation, live := strings.CutSuffix(value, ", live")
			args = append(args, "--with", mitigation)
			if live {
				args = append(args, "--live")
			}
		case "without":
			args = append(args, "--without", value)
		default:
			args = append(args, "--set", name+"="+value)
		}
	}
	switch {
	case r.Runtime.KernelRef != "":
		args = append(args, "--kernel", r.Runtime.KernelRef)
	case r.Runtime.On != "":
		args = append(args, "--on", r.Runtime.On)
	}
	for i, arg := range args {
		args[i] = shellQuote(arg)
	}
	return strings.Join(args, " ")
}

// reproduceSeries is the same for a series.
func reproduceSeries(s record.Series) string {
	return fmt.Sprintf("%s --repeat %d", Command(record.Result{Scenario: s.Scenario, Settings: s.Settings, Runtime: s.Runtime}), s.Wanted)
}

// plainArgument is what a POSIX shell leaves as it is.
var plainArgument = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// shellQuote is arg as one word of a POSIX shell.
func shellQuote(arg string) string {
	if plainArgument.MatchString(arg) {
		return arg
	}
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
}
