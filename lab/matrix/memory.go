package matrix

import (
	"bytes"
	"fmt"
	"os"
)

// Memory tells whether this machine has mib MiB of memory that is free or can
// be freed without swapping (MemAvailable in /proc/meminfo). Where that is not
// known, it has.
func Memory(mib int) bool {
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return true
	}
	available, ok := parseAvailable(info)
	return !ok || available >= mib
}

// parseAvailable is MemAvailable in MiB.
func parseAvailable(info []byte) (mib int, ok bool) {
	for line := range bytes.Lines(info) {
		var kib int
		if n, _ := fmt.Sscanf(string(line), "MemAvailable: %d kB", &kib); n == 1 {
			return kib >> 10, true
		}
	}
	return 0, false
}
