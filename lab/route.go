//go:build linux

// This file adds routes with all metrics of ip-route(8). Package netlink's Route
// writes one lock attribute for each locked metric, of which the kernel keeps
// the last, so mtu lock and rto_min together need a request of our own.

package lab

import (
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/topology"
)

// metric is one value of RTA_METRICS: an RTAX_* type and its value.
type metric struct {
	typ   uint16
	value uint32
}

// metrics translates a route's metrics into the kernel's units, in the order of
// their types.
func metrics(r topology.Route) []metric {
	var lock uint32
	if r.MTULock {
		lock |= 1 << unix.RTAX_MTU
	}
	if r.RTOMin > 0 {
		// The kernel heeds rto_min only when it is locked (tcp_rto_min).
		lock |= 1 << unix.RTAX_RTO_MIN
	}
	var quickack uint32
	if r.Quickack {
		quickack = 1
	}
	all := []metric{
		{unix.RTAX_LOCK, lock},
		{unix.RTAX_MTU, uint32(r.MTU)},
		{unix.RTAX_WINDOW, uint32(r.Window)},
		// Kept in eighths of a millisecond, like tcp_sock.srtt of old.
		{unix.RTAX_RTT, uint32(8 * r.RTT / time.Millisecond)},
		{unix.RTAX_ADVMSS, uint32(r.AdvMSS)},
		{unix.RTAX_INITCWND, uint32(r.InitCwnd)},
		{unix.RTAX_RTO_MIN, uint32((r.RTOMin + time.Millisecond - 1) / time.Millisecond)},
		{unix.RTAX_INITRWND, uint32(r.InitRwnd)},
		{unix.RTAX_QUICKACK, quickack},
	}
	set := all[:0]
	for _, m := range all {
		if m.value != 0 {
			set = append(set, m)
		}
	}
	return set
}

// addRoute adds a route that is not there yet.
func (n *network) addRoute(r topology.Route) error {
	return n.putRoute(r, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
}

// putRoute adds or replaces a route, as the flags say.
func (n *network) putRoute(r topology.Route, flags int) error {
	req := n.request(unix.RTM_NEWROUTE, unix.NLM_F_ACK|flags)
	dst := r.To.Masked()
	msg := &nl.RtMsg{RtMsg: unix.RtMsg{
		Family:   unix.AF_INET,
		Dst_len:  uint8(dst.Bits()),
		Protocol: unix.RTPROT_STATIC,
		Type:     unix.RTN_UNICAST,
		Scope:    unix.RT_SCOPE_LINK,
		Table:    unix.RT_TABLE_UNSPEC, // RTA_TABLE holds more than 255
	}}
	table := r.Table
	if table == 0 {
		table = unix.RT_TABLE_MAIN
	}
	attrs := []*nl.RtAttr{nl.NewRtAttr(unix.RTA_TABLE, nl.Uint32Attr(uint32(table)))}
	add := func(typ int, data []byte) { attrs = append(attrs, nl.NewRtAttr(typ, data)) }
	if dst.Bits() > 0 {
		add(unix.RTA_DST, dst.Addr().AsSlice())
	}
	if r.Via.IsValid() {
		msg.Scope = unix.RT_SCOPE_UNIVERSE
		add(unix.RTA_GATEWAY, r.Via.AsSlice())
	}
	if r.Src.IsValid() {
		add(unix.RTA_PREFSRC, r.Src.AsSlice())
	}
	if r.Priority != 0 {
		add(unix.RTA_PRIORITY, nl.Uint32Attr(uint32(r.Priority)))
	}
	if r.Dev != "" {
		index, err := n.index(r.Dev)
		if err != nil {
			return fmt.Errorf("add route to %v: %w", dst, err)
		}
		add(unix.RTA_OIF, nl.Uint32Attr(uint32(index)))
	}
	if ms := metrics(r); len(ms) > 0 {
		nested := nl.NewRtAttr(unix.RTA_METRICS, nil)
		for _, m := range ms {
			nested.AddRtAttr(int(m.typ), nl.Uint32Attr(m.value))
		}
		attrs = append(attrs, nested)
	}
	req.AddData(msg)
	for _, a := range attrs {
		req.AddData(a)
	}
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("add route to %v on %s: %w", dst, n.name, err)
	}
	return nil
}
