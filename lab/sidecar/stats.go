//go:build linux

// The proxy's counters, by Envoy's names, in memory shared by the two processes.

package sidecar

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Stats are the counters and gauges of a sidecar by Envoy's names, those of a
// TCP proxy with stat_prefix "passthrough" and of the PassthroughCluster
// (Envoy: configuration/listeners/network_filters/tcp_proxy_filter,
// configuration/upstream/cluster_manager/cluster_stats). Bytes are TCP payload.
//
// A flow-control counter goes up when a socket would take no more: the relay
// then reads no more from the other one until it does.
type Stats map[string]uint64

// String lists the counters as Envoy's /stats does: name, colon, value, sorted.
func (s Stats) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s)) {
		fmt.Fprintf(&b, "%s: %d\n", name, s[name])
	}
	return b.String()
}

// counter is the place of one counter in counters.
type counter int

const (
	downstreamTotal counter = iota
	downstreamActive
	downstreamNoRoute
	downstreamRx
	downstreamTx
	downstreamTxBuffered
	downstreamPaused
	downstreamResumed
	upstreamTotal
	upstreamActive
	upstreamConnectFail
	upstreamConnectTimeout
	upstreamRx
	upstreamTx
	upstreamTxBuffered
	upstreamPaused
	upstreamResumed
	counterCount
)

// name is the counter's name in Envoy.
func (c counter) name() string {
	return [counterCount]string{
		downstreamTotal:        "tcp.passthrough.downstream_cx_total",
		downstreamActive:       "tcp.passthrough.downstream_cx_active",
		downstreamNoRoute:      "tcp.passthrough.downstream_cx_no_route",
		downstreamRx:           "tcp.passthrough.downstream_cx_rx_bytes_total",
		downstreamTx:           "tcp.passthrough.downstream_cx_tx_bytes_total",
		downstreamTxBuffered:   "tcp.passthrough.downstream_cx_tx_bytes_buffered",
		downstreamPaused:       "tcp.passthrough.downstream_flow_control_paused_reading_total",
		downstreamResumed:      "tcp.passthrough.downstream_flow_control_resumed_reading_total",
		upstreamTotal:          "cluster.PassthroughCluster.upstream_cx_total",
		upstreamActive:         "cluster.PassthroughCluster.upstream_cx_active",
		upstreamConnectFail:    "cluster.PassthroughCluster.upstream_cx_connect_fail",
		upstreamConnectTimeout: "cluster.PassthroughCluster.upstream_cx_connect_timeout",
		upstreamRx:             "cluster.PassthroughCluster.upstream_cx_rx_bytes_total",
		upstreamTx:             "cluster.PassthroughCluster.upstream_cx_tx_bytes_total",
		upstreamTxBuffered:     "cluster.PassthroughCluster.upstream_cx_tx_bytes_buffered",
		upstreamPaused:         "cluster.PassthroughCluster.upstream_flow_control_paused_reading_total",
		upstreamResumed:        "cluster.PassthroughCluster.upstream_flow_control_resumed_reading_total",
	}[c]
}

// counters are the values. The proxy alone writes them.
type counters [counterCount]atomic.Uint64

func (c *counters) add(which counter, n int)     { c[which].Add(uint64(n)) }
func (c *counters) inc(which counter)            { c[which].Add(1) }
func (c *counters) dec(which counter)            { c[which].Add(^uint64(0)) }
func (c *counters) get(which counter) (n uint64) { return c[which].Load() }

// stats is a copy of all values.
func (c *counters) stats() Stats {
	s := make(Stats, counterCount)
	for i := range counterCount {
		s[i.name()] = c.get(i)
	}
	return s
}

// countersSize is the size of the shared memory in bytes.
const countersSize = int(unsafe.Sizeof(counters{}))

// newCountersFile makes the memory that the counters of one sidecar live in.
// The caller closes it.
func newCountersFile() (*os.File, error) {
	fd, err := unix.MemfdCreate("pmtulab-sidecar-stats", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make memory for the sidecar's counters: %w", err)
	}
	f := os.NewFile(uintptr(fd), "sidecar counters")
	if err := f.Truncate(int64(countersSize)); err != nil {
		f.Close()
		return nil, fmt.Errorf("size memory for the sidecar's counters: %w", err)
	}
	return f, nil
}

// mapCounters maps the counters in fd for reading and, with unix.PROT_WRITE in
// prot, for writing. The mapping outlives fd; the caller calls unmap.
func mapCounters(fd uintptr, prot int) (c *counters, unmap func() error, err error) {
	mem, err := unix.Mmap(int(fd), 0, countersSize, unix.PROT_READ|prot, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("map the sidecar's counters: %w", err)
	}
	return (*counters)(unsafe.Pointer(unsafe.SliceData(mem))), func() error { return unix.Munmap(mem) }, nil
}
