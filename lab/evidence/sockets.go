package evidence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab/record"
)

// ErrNoSocket is the error of a sample of a TCP socket that does not exist
// (any more) in the node.
var ErrNoSocket = errors.New("no such TCP socket")

// ErrNotObserved is the error of a question about a node that the observer was
// not started with.
var ErrNotObserved = errors.New("node is not observed")

// Sample reads one TCP socket of a node through inet_diag, which does not
// touch it. An [Observer] does the same with a socket that it keeps open. The
// addresses are IPv4; the error is ErrNoSocket when no socket has them.
func Sample(n Node, local, remote netip.AddrPort) (record.Socket, error) {
	var sample record.Socket
	err := n.Do(func() error {
		diag, err := openNetlink(unix.NETLINK_SOCK_DIAG)
		if err != nil {
			return err
		}
		sample, err = sampleSocket(diag, socketRequest(local, remote))
		return errors.Join(err, diag.close())
	})
	if err != nil {
		return sample, fmt.Errorf("sample socket %s to %s of %s: %w", local, remote, n.Name(), err)
	}
	return sample, nil
}

// Sizes of linux/inet_diag.h.
const (
	sizeofDiagRequest = 56 // struct inet_diag_req_v2
	sizeofDiagMessage = 72 // struct inet_diag_msg
	// diagInfo is INET_DIAG_INFO: the attribute that carries struct tcp_info.
	diagInfo = 2
)

// socketRequest asks for one socket by its addresses: a look-up in the hash
// of established sockets, whose cost does not grow with their number. One of
// IPv4 is found by IPv4 addresses, also where the application opened it as IPv6.
func socketRequest(local, remote netip.AddrPort) []byte {
	request := make([]byte, unix.SizeofNlMsghdr+sizeofDiagRequest)
	binary.NativeEndian.PutUint32(request[0:], uint32(len(request)))
	binary.NativeEndian.PutUint16(request[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(request[6:], unix.NLM_F_REQUEST)
	body := request[unix.SizeofNlMsghdr:]
	body[0] = unix.AF_INET
	if remote.Addr().Unmap().Is6() {
		body[0] = unix.AF_INET6
	}
	body[1] = unix.IPPROTO_TCP
	body[2] = 1 << (diagInfo - 1)                        // idiag_ext
	binary.NativeEndian.PutUint32(body[4:], ^uint32(0))  // idiag_states: all
	binary.BigEndian.PutUint16(body[8:], local.Port())   // idiag_sport
	binary.BigEndian.PutUint16(body[10:], remote.Port()) // idiag_dport
	source, destination := local.Addr().Unmap(), remote.Addr().Unmap()
	copy(body[12:28], source.AsSlice())
	copy(body[28:44], destination.AsSlice())
	// idiag_if 0, and INET_DIAG_NOCOOKIE twice.
	binary.NativeEndian.PutUint64(body[48:], ^uint64(0))
	return request
}

// sampleSocket sends a request of socketRequest.
func sampleSocket(diag *netlinkSocket, request []byte) (record.Socket, error) {
	var sample record.Socket
	err := diag.ask(request, func(m syscall.NetlinkMessage) error {
		var err error
		sample, err = parseSocket(m.Data)
		return err
	})
	if errors.Is(err, unix.ENOENT) {
		return sample, ErrNoSocket
	}
	if err != nil {
		return sample, err
	}
	if sample.State == "LISTEN" { // the look-up falls back to listeners
		return sample, ErrNoSocket
	}
	return sample, nil
}

// parseSocket reads a struct inet_diag_msg and its attributes.
func parseSocket(payload []byte) (record.Socket, error) {
	if len(payload) < sizeofDiagMessage {
		return record.Socket{}, fmt.Errorf("read an inet_diag message of %d bytes: %w", len(payload), unix.EBADMSG)
	}
	s := record.Socket{
		State:  stateName(payload[1]),
		Timer:  record.Timer(payload[2]),
		Local:  diagAddress(payload[0], payload[8:24], payload[4:]),
		Remote: diagAddress(payload[0], payload[24:40], payload[6:]),
	}
	if s.Timer != record.TimerNone {
		// A timer that is due already is negative in idiag_expires.
		s.Expires = record.Ms(max(0, int32(binary.NativeEndian.Uint32(payload[52:]))))
	}
	attributes(payload[sizeofDiagMessage:], func(kind uint16, value []byte) {
		if kind == diagInfo {
			readInfo(&s, value)
		}
	})
	return s, nil
}

// readInfo takes what is wanted out of a struct tcp_info, which grows with
// every few kernels: fields that this kernel's is too short for stay 0.
func readInfo(s *record.Socket, value []byte) {
	var info unix.TCPInfo
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&info)), unsafe.Sizeof(info)), value)
	s.Unacked = info.Unacked
	s.NotSent = info.Notsent_bytes
	s.SendMSS = info.Snd_mss
	s.PMTU = info.Pmtu
	s.AdvMSS = info.Advmss
	s.RTO = record.Ms(info.Rto) / 1000 // µs
	s.SegsOut = info.Segs_out
	s.SegsIn = info.Segs_in
	s.Retransmits = info.Total_retrans
	s.Probes = info.Probes
	s.SendWindow = info.Snd_wnd
}

func addrPort(address, port []byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(address[:4])), binary.BigEndian.Uint16(port))
}

// stateName names the TCP states of net/tcp_states.h as RFC 9293 does.
func stateName(state uint8) string {
	names := [...]string{
		1: "ESTABLISHED", "SYN-SENT", "SYN-RECEIVED", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT",
		"CLOSED", "CLOSE-WAIT", "LAST-ACK", "LISTEN", "CLOSING", "SYN-RECEIVED",
	}
	if int(state) >= len(names) || state == 0 {
		return fmt.Sprintf("state %d", state)
	}
	return names[state]
}

// socketText says a sample in one line, in the order in which one reads it
// when looking for a stall.
func socketText(s record.Socket) string {
	text := fmt.Sprintf("%s unacked %d notsent %d mss %d pmtu %d", s.State, s.Unacked, s.NotSent, s.SendMSS, s.PMTU)
	if s.Timer != record.TimerNone {
		text = fmt.Sprintf("%s timer %s in %.0f ms", text, s.Timer, s.Expires)
	}
	return text
}
