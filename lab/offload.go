//go:build linux

// This file sets and reads the offloads of an interface by the ethtool ioctl
// (ethtool(8), linux/ethtool.h). The old one-value commands are used: four
// system calls, where the feature strings of the newer ones are kilobytes.

package lab

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/topology"
)

// An offload is one offload with its commands.
type offload struct {
	// name is ethtool -k's.
	name     string
	get, set uint32
	wanted   func(topology.Offloads) bool
}

// offloads lists those that a Spec sets. Checksumming comes first: the kernel
// takes segmentation away from a device without it (netdev_fix_features).
func offloads() []offload {
	return []offload{
		{"tx-checksumming", 0x16, 0x17, func(o topology.Offloads) bool { return o.TxChecksum }},
		{"generic-segmentation-offload", 0x23, 0x24, func(o topology.Offloads) bool { return o.GSO }},
		{"tcp-segmentation-offload", 0x1e, 0x1f, func(o topology.Offloads) bool { return o.TSO }},
		{"generic-receive-offload", 0x2b, 0x2c, func(o topology.Offloads) bool { return o.GRO }},
	}
}

// setOffloads sets all offloads of an interface.
func (n *network) setOffloads(iface string, o topology.Offloads) error {
	for _, f := range offloads() {
		var v uint32
		if f.wanted(o) {
			v = 1
		}
		if _, err := n.ethtoolValue(iface, f.set, v); err != nil {
			return fmt.Errorf("set %s of %s:%s to %t: %w", f.name, n.name, iface, v == 1, err)
		}
	}
	n.offloads[iface] = o
	return nil
}

// checkOffloads compares what became of an interface's offloads with what was
// set.
func (n *network) checkOffloads(iface string, state map[string]bool) error {
	o, set := n.offloads[iface]
	for _, f := range offloads() {
		if set && state[f.name] != f.wanted(o) {
			return fmt.Errorf("set %s of %s:%s to %t: the kernel left it %t (tso and gso need tx-checksum)",
				f.name, n.name, iface, f.wanted(o), state[f.name])
		}
	}
	return nil
}

// readOffloads returns the state of each offload by its ethtool name.
func (n *network) readOffloads(iface string) (map[string]bool, error) {
	state := make(map[string]bool)
	for _, f := range offloads() {
		v, err := n.ethtoolValue(iface, f.get, 0)
		if err != nil {
			return nil, fmt.Errorf("read %s of %s:%s: %w", f.name, n.name, iface, err)
		}
		state[f.name] = v != 0
	}
	return state, nil
}

// ethtoolValue executes one ethtool command that takes or returns a struct
// ethtool_value.
func (n *network) ethtoolValue(iface string, command, value uint32) (uint32, error) {
	arg := struct{ command, value uint32 }{command, value}
	var ifreq struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte // the rest of the union in struct ifreq
	}
	copy(ifreq.name[:unix.IFNAMSIZ-1], iface)
	ifreq.data = unsafe.Pointer(&arg)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(n.ethtool), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifreq)))
	runtime.KeepAlive(&arg)
	if errno != 0 {
		return 0, errno //nolint:wrapcheck // the caller names the feature
	}
	return arg.value, nil
}
