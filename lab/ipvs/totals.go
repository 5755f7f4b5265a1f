//go:build linux

package ipvs

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// Totals counts the traffic of all services of a namespace since it was made.
type Totals struct {
	Connections           uint64
	InPackets, OutPackets uint64
	InBytes, OutBytes     uint64
}

// Totals adds up the processors' counters in /proc/net/ip_vs_stats_percpu. They
// are exact at once. All other figures, those of single services and the file's
// own line of sums included, lag by up to two seconds (estimation_timer,
// ip_vs_est.c), so this package does not offer them. In tunnel and direct-route
// forwarding the answers pass the load balancer by: OutPackets and OutBytes
// stay 0.
func (h *Handle) Totals() (Totals, error) {
	if h.totals == nil {
		return Totals{}, fmt.Errorf("read totals of IP Virtual Server: %w", os.ErrClosed)
	}
	// ReadAt from 0 makes the kernel compose the file anew.
	data, err := io.ReadAll(io.NewSectionReader(h.totals, 0, 1<<20))
	if err != nil {
		return Totals{}, fmt.Errorf("read totals of IP Virtual Server: %w", err)
	}
	t, err := parseTotals(data)
	if err != nil {
		return Totals{}, fmt.Errorf("read totals of IP Virtual Server: %w", err)
	}
	return t, nil
}

// parseTotals adds up the lines of ip_vs_stats_percpu that begin with the number
// of a processor: hexadecimal connections, incoming and outgoing packets,
// incoming and outgoing bytes.
func parseTotals(data []byte) (Totals, error) {
	var sum [5]uint64
	processors := 0
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) != 1+len(sum) {
			continue // headings, and the rates, which have other columns
		}
		if _, err := strconv.ParseUint(fields[0], 16, 32); err != nil {
			continue // "CPU", and "~", the line of sums
		}
		processors++
		for i := range sum {
			v, err := strconv.ParseUint(fields[i+1], 16, 64)
			if err != nil {
				return Totals{}, fmt.Errorf("field %d of %q: %w", i+2, line, err)
			}
			sum[i] += v
		}
	}
	if processors == 0 {
		return Totals{}, fmt.Errorf("no processor in ip_vs_stats_percpu (%d bytes)", len(data))
	}
	return Totals{Connections: sum[0], InPackets: sum[1], OutPackets: sum[2], InBytes: sum[3], OutBytes: sum[4]}, nil
}
