//go:build linux

package ipvs

import (
	"errors"
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
	t, err := ParseTotals(data)
	if err != nil {
		return Totals{}, fmt.Errorf("read totals of IP Virtual Server: %w", err)
	}
	return t, nil
}

// ParseTotals adds up the rows of ip_vs_stats_percpu, one for each processor,
// all hexadecimal: its number, connections, incoming and outgoing packets,
// incoming and outgoing bytes.
func ParseTotals(text []byte) (Totals, error) {
	var sum [5]uint64
	number, rows := 0, 0
	for line := range strings.Lines(string(text)) {
		number++
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if fields[0] == "~" { // the sums; behind them stand rates
			break
		}
		if _, err := strconv.ParseUint(fields[0], 16, 32); err != nil {
			continue // headings
		}
		if len(fields) != 1+len(sum) {
			return Totals{}, fmt.Errorf("line %d: %d columns, want %d", number, len(fields), 1+len(sum))
		}
		rows++
		for i := range sum {
			v, err := strconv.ParseUint(fields[1+i], 16, 64)
			if err != nil {
				return Totals{}, fmt.Errorf("line %d: column %d: %w", number, i+2, err)
			}
			sum[i] += v
		}
	}
	if rows == 0 {
		return Totals{}, errors.New("no row of a processor")
	}
	return Totals{Connections: sum[0], InPackets: sum[1], OutPackets: sum[2], InBytes: sum[3], OutBytes: sum[4]}, nil
}
