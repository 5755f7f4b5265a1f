// What a kernel log says about the end of a guest: a table of the lines by
// which a kernel tells that it panicked or oopsed.

package guest

import (
	"bytes"
	"fmt"
	"regexp"

	"github.com/pmtulab/pmtulab/lab/record"
)

// crash is a line that a dying kernel writes.
type crash struct {
	outcome record.GuestOutcome
	pattern *regexp.Regexp
	// advice is added to the line when there is something to do about it.
	advice string
}

// crashes in the order of meaning: the first that matches a line anywhere in
// the log wins, because an oops comes before the panic that it causes.
func crashes() []crash {
	const memory = "the guest has too little memory: raise MemoryMiB"
	line := func(expr string) *regexp.Regexp { return regexp.MustCompile(`(?m)^.*(?:` + expr + `).*$`) }
	return []crash{
		{record.GuestPanic, line(`Initramfs unpacking failed: write error|Kernel panic - not syncing: .*Failed to allocate`), memory},
		{record.GuestPanic, line(`Kernel panic - not syncing: Out of memory|System is deadlocked on memory`), memory},
		{record.GuestOops, line(`Oops: |BUG: unable to handle|kernel BUG at |general protection fault|` +
			`BUG: (?:KASAN|soft lockup|kernel NULL pointer)|Internal error: |unable to handle kernel|Kernel mode fault at addr|` +
			`Kernel mode signal|segfault with no mm|WARNING: .*CPU(?:: |#)[0-9]|[a-z ]+: [0-9a-f]{4} \[#[0-9]+\]`), ""}, // die(): "invalid opcode: 0000 [#1]"
		{record.GuestPanic, line(`Kernel panic - not syncing`), ""},
	}
}

// findCrash looks for the crash in a kernel log.
func findCrash(log []byte) (outcome record.GuestOutcome, detail string, ok bool) {
	for _, c := range crashes() {
		if m := c.pattern.Find(log); m != nil {
			detail := logLine(m)
			if c.advice != "" {
				detail = fmt.Sprintf("%s (%s)", detail, c.advice)
			}
			return c.outcome, detail, true
		}
	}
	return "", "", false
}

// lastLine is the last line of a log that is not empty.
func lastLine(log []byte) string {
	log = bytes.TrimSpace(log)
	return logLine(log[bytes.LastIndexByte(log, '\n')+1:])
}

// logLine is a line without blanks and without the level that a dump of the
// kernel's buffer prefixes ("<0>").
func logLine(line []byte) string {
	line = bytes.TrimSpace(line)
	if len(line) > 3 && line[0] == '<' && line[2] == '>' {
		line = line[3:]
	}
	return string(line)
}
