// How long a hypervisor kept processors from this machine.

package evidence

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/pmtulab/pmtulab/lab/record"
)

// userHZ is the unit of /proc/stat, the same on every x86-64 kernel.
const userHZ = 100

// steal is the stolen time of each processor since boot, in ticks of userHZ. A
// machine that is not told of it, as User-Mode Linux, has none.
type steal map[string]int64

func readSteal() (steal, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return nil, fmt.Errorf("read the stolen time: %w", err)
	}
	s, err := parseSteal(string(b))
	if err != nil {
		return nil, fmt.Errorf("read the stolen time: %w", err)
	}
	return s, nil
}

// parseSteal reads the 8th figure of each line "cpuN" of /proc/stat
// (proc_stat(5)).
func parseSteal(stat string) (steal, error) {
	s := steal{}
	for line := range strings.Lines(stat) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] == "cpu" || !strings.HasPrefix(fields[0], "cpu") {
			continue
		}
		if len(fields) < 9 {
			return nil, fmt.Errorf("no stolen time in %q", line)
		}
		ticks, err := strconv.ParseInt(fields[8], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("no stolen time in %q: %w", line, err)
		}
		s[fields[0]] = ticks
	}
	if len(s) == 0 {
		return nil, fmt.Errorf("no processor in %q", stat)
	}
	return s, nil
}

// since is what was stolen after before was read, of the processor that lost
// most: the sum over all would be no length of time.
func (s steal) since(before steal) record.Ms {
	var most int64
	for processor, ticks := range s {
		if was, ok := before[processor]; ok {
			most = max(most, ticks-was)
		}
	}
	return record.Millis(time.Duration(most) * time.Second / userHZ)
}
