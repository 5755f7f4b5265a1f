package evidence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// answerTimeout bounds the wait for an answer from the kernel. Both protocols
// used here answer within the system call that asks; the bound turns a kernel
// that does not into an error instead of a hang.
const answerTimeout = 2 // seconds

// netlinkSocket is a netlink socket that lives in one namespace for as long
// as it is open. Its request and its answer are one system call each, and it
// never enters Go's poller. It is for one goroutine at a time.
type netlinkSocket struct {
	fd     int
	seq    uint32
	buffer []byte
}

// openNetlink opens a socket of a netlink protocol in the namespace of the
// calling thread. The caller closes it.
func openNetlink(protocol int) (*netlinkSocket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket of protocol %d: %w", protocol, err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: answerTimeout}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("set the deadline of a netlink socket: %w", err)
	}
	// 32 KiB is the most that the kernel puts into one part of a dump
	// (netlink_dump in net/netlink/af_netlink.c).
	return &netlinkSocket{fd: fd, buffer: make([]byte, 32<<10)}, nil
}

func (s *netlinkSocket) close() error {
	if err := unix.Close(s.fd); err != nil {
		return fmt.Errorf("close a netlink socket: %w", err)
	}
	return nil
}

// ask sends request, a whole message with header, and calls each for every
// message of the answer until the dump or the single answer is complete. What
// each receives is valid during the call only. An errno that the kernel
// answered with is in the chain of the error.
func (s *netlinkSocket) ask(request []byte, each func(syscall.NetlinkMessage) error) error {
	s.seq++
	binary.NativeEndian.PutUint32(request[8:], s.seq)
	dump := binary.NativeEndian.Uint16(request[6:])&unix.NLM_F_DUMP == unix.NLM_F_DUMP
	if err := unix.Sendto(s.fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send a netlink request: %w", err)
	}
	for {
		n, _, err := unix.Recvfrom(s.fd, s.buffer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("receive a netlink answer: %w", err)
		}
		messages, err := syscall.ParseNetlinkMessage(s.buffer[:n])
		if err != nil {
			return fmt.Errorf("read a netlink answer of %d bytes: %w", n, err)
		}
		for _, m := range messages {
			if m.Header.Seq != s.seq {
				continue // the rest of an answer that was given up
			}
			switch m.Header.Type {
			case unix.NLMSG_DONE:
				return nil
			case unix.NLMSG_ERROR:
				return answeredError(m.Data)
			}
			if m.Header.Flags&unix.NLM_F_DUMP_INTR != 0 {
				return fmt.Errorf("read a netlink dump: %w", unix.EINTR)
			}
			if err := each(m); err != nil {
				return err
			}
			if !dump {
				return nil
			}
		}
	}
}

// answeredError is the errno in the payload of an NLMSG_ERROR; 0 is success.
func answeredError(payload []byte) error {
	if len(payload) < 4 {
		return fmt.Errorf("read a netlink error of %d bytes: %w", len(payload), unix.EBADMSG)
	}
	if code := int32(binary.NativeEndian.Uint32(payload)); code != 0 {
		return fmt.Errorf("netlink request refused: %w", syscall.Errno(-code))
	}
	return nil
}

// attributeType masks the nested and byte-order flags off an attribute's type
// (NLA_TYPE_MASK in linux/netlink.h).
const attributeType = 0x3fff

// attributes calls each for every attribute in data and stops where data is
// cut short.
func attributes(data []byte, each func(kind uint16, value []byte)) {
	for len(data) >= unix.SizeofNlAttr {
		length := int(binary.NativeEndian.Uint16(data))
		if length < unix.SizeofNlAttr || length > len(data) {
			return
		}
		each(binary.NativeEndian.Uint16(data[2:])&attributeType, data[unix.SizeofNlAttr:length])
		data = data[min((length+3)&^3, len(data)):]
	}
}
