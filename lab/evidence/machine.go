// A machine without a lab: the sockets, exceptions and counters of a network
// namespace, read without touching them.

package evidence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab/record"
)

// Machine reads one network namespace. It is for one goroutine at a time.
type Machine struct {
	// Unseen says what cannot be read here, and why.
	Unseen []error

	sockets, routes *netlinkSocket
	counters        *counterFiles
}

// Glimpse is what a dump of all sockets tells of one, at little cost.
type Glimpse struct {
	Local, Remote netip.AddrPort
	Timer         record.Timer
	// Queue counts bytes that were written and not acknowledged.
	Queue uint32
	// Backoff counts how often the timer has run out in a row.
	Backoff uint8
}

// OpenMachine opens the network namespace of the calling thread. What it cannot
// read goes into Unseen; without sockets there is nothing to watch, and an
// error. The caller closes it.
func OpenMachine() (*Machine, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	m := &Machine{}
	var err error
	if m.sockets, err = openNetlink(unix.NETLINK_SOCK_DIAG); err != nil {
		return nil, err
	}
	if err := m.Glimpse(func(Glimpse) {}); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	if m.routes, err = openRoutes(); err != nil {
		m.Unseen = append(m.Unseen, fmt.Errorf("PMTU exceptions: %w", err))
	}
	if m.counters, err = openCounters(); err != nil {
		m.Unseen = append(m.Unseen, fmt.Errorf("counters: %w", err))
	}
	return m, nil
}

// Close closes what is open.
func (m *Machine) Close() error {
	if m.counters != nil {
		m.counters.close()
	}
	var errs []error
	for _, s := range []*netlinkSocket{m.sockets, m.routes} {
		if s != nil {
			errs = append(errs, s.close())
		}
	}
	return errors.Join(errs...)
}

// Glimpse dumps all TCP connections, of IPv4 and of IPv6: by the request of
// before Linux 3.3, which alone takes both in one walk through the hash table,
// most of the cost.
func (m *Machine) Glimpse(each func(Glimpse)) error {
	const (
		getSockets  = 18 // TCPDIAG_GETSOCK
		sizeofDiag1 = 60 // struct inet_diag_req
	)
	request := make([]byte, unix.SizeofNlMsghdr+sizeofDiag1)
	binary.NativeEndian.PutUint32(request[0:], uint32(len(request)))
	binary.NativeEndian.PutUint16(request[4:], getSockets)
	binary.NativeEndian.PutUint16(request[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	binary.NativeEndian.PutUint32(request[unix.SizeofNlMsghdr+52:], connectedStates) // idiag_states
	err := m.sockets.ask(request, func(message syscall.NetlinkMessage) error {
		g, err := parseGlimpse(message.Data)
		if err == nil {
			each(g)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("list the TCP sockets: %w", err)
	}
	return nil
}

// connectedStates is a mask of states in which data may wait: ESTABLISHED,
// SYN-SENT, FIN-WAIT-1, CLOSE-WAIT, LAST-ACK and CLOSING (net/tcp_states.h).
const connectedStates = 1<<1 | 1<<2 | 1<<4 | 1<<8 | 1<<9 | 1<<11

// parseGlimpse reads a struct inet_diag_msg, of either family.
func parseGlimpse(payload []byte) (Glimpse, error) {
	if len(payload) < sizeofDiagMessage {
		return Glimpse{}, fmt.Errorf("read an inet_diag message of %d bytes: %w", len(payload), unix.EBADMSG)
	}
	return Glimpse{
		Local:   diagAddress(payload[0], payload[8:24], payload[4:]),
		Remote:  diagAddress(payload[0], payload[24:40], payload[6:]),
		Timer:   record.Timer(payload[2]),
		Backoff: payload[3],
		Queue:   binary.NativeEndian.Uint32(payload[60:]),
	}, nil
}

// diagAddress reads an address of inet_diag; one of IPv4 in an IPv6 socket is
// one of IPv4.
func diagAddress(family byte, address, port []byte) netip.AddrPort {
	if family == unix.AF_INET6 {
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(address)).Unmap(), binary.BigEndian.Uint16(port))
	}
	return addrPort(address, port)
}

// Sample reads all about one socket; the error is ErrNoSocket when it is gone.
func (m *Machine) Sample(local, remote netip.AddrPort) (record.Socket, error) {
	return sampleSocket(m.sockets, socketRequest(local, remote))
}

// Exceptions are the IPv4 PMTU exceptions; none when they cannot be read.
func (m *Machine) Exceptions() ([]record.Exception, error) {
	if m.routes == nil {
		return nil, nil
	}
	return dumpExceptions(m.routes, "")
}

// Counters are all counters of the namespace by "Protocol.Name"; none when they
// cannot be read.
func (m *Machine) Counters() (map[string]int64, error) {
	if m.counters == nil {
		return nil, nil
	}
	return m.counters.read()
}
