//go:build linux

// One direction of a proxied connection: gather what one socket has, hand it
// to the other in one writev.

package sidecar

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// sliceSize is Envoy's unit of reading (RawBufferSocket::doRead, slices of
	// Buffer::OwnedImpl).
	sliceSize = 16 << 10
	// maxSlices is how many slices Envoy hands to one writev
	// (Buffer::OwnedImpl, IoSocketHandleImpl::write).
	maxSlices = 16
)

type slice = [sliceSize]byte

// slicePool lends slices. A stream holds them only between a read and the end
// of the write that follows, so an idle connection holds none.
type slicePool struct{ pool sync.Pool }

func (p *slicePool) get() *slice {
	if s, ok := p.pool.Get().(*slice); ok {
		return s
	}
	return new(slice)
}

func (p *slicePool) put(s *slice) { p.pool.Put(s) }

// side is one of the two sockets of a proxied connection.
type side struct {
	conn *net.TCPConn
	raw  syscall.RawConn
	// reset are the flags of a connection that this side resets.
	reset ResponseFlags
}

func newSide(conn *net.TCPConn, reset ResponseFlags) (side, error) {
	raw, err := conn.SyscallConn()
	return side{conn: conn, raw: raw, reset: reset}, err //nolint:wrapcheck // fails for a closed connection only
}

// stream carries the bytes of one direction. One goroutine uses it.
type stream struct {
	from, to side
	pool     *slicePool
	counters *counters
	// rx and tx count payload, buffered is what was read and not yet taken,
	// paused and resumed count waits for to to take more.
	rx, tx, buffered, paused, resumed counter

	// read and writev are the system calls, fields so that a test counts them.
	read   func(fd int, p []byte) (int, error)
	writev func(fd int, iovs [][]byte) (int, error)

	// total counts the bytes that from gave.
	total uint64
	// held are the slices of this turn, pending what of them is unwritten.
	held    []*slice
	pending [][]byte
	eof     bool
	err     error // of the last system call
	waiting bool  // for to to take more
}

// resetBy is the error of a side that ended without a FIN.
type resetBy struct {
	flags ResponseFlags
	err   error
}

func (r *resetBy) Error() string { return string(r.flags) + ": " + r.err.Error() }
func (r *resetBy) Unwrap() error { return r.err }

// run relays until from ends with a FIN, which it passes on, and returns nil;
// or until one side fails, and returns a *resetBy. When another goroutine
// closes the sockets the error is net.ErrClosed.
func (s *stream) run() error {
	for {
		if err := s.from.raw.Read(s.gather); err != nil {
			s.release()
			return err //nolint:wrapcheck // net.ErrClosed, as documented
		}
		readErr := s.err
		s.err = nil
		if len(s.pending) > 0 {
			err := s.to.raw.Write(s.deliver)
			s.release()
			if err != nil {
				return err //nolint:wrapcheck // net.ErrClosed, as documented
			}
			if s.err != nil {
				return &resetBy{s.to.reset, os.NewSyscallError("writev", s.err)}
			}
		}
		if readErr != nil {
			return &resetBy{s.from.reset, os.NewSyscallError("read", readErr)}
		}
		if s.eof {
			if err := s.to.conn.CloseWrite(); errors.Is(err, unix.ENOTCONN) {
				return &resetBy{s.to.reset, err}
			} else if err != nil {
				return err //nolint:wrapcheck // net.ErrClosed, as documented
			}
			return nil
		}
	}
}

// gather reads until the socket is empty or the turn is full. It returns false,
// holding nothing, when there was nothing to read: the runtime then waits.
func (s *stream) gather(fd uintptr) bool {
	for len(s.held) < maxSlices {
		buf := s.pool.get()
		n, err := s.read(int(fd), buf[:])
		if n > 0 {
			s.held = append(s.held, buf)
			s.pending = append(s.pending, buf[:n])
			s.total += uint64(n)
			s.counters.add(s.rx, n)
			s.counters.add(s.buffered, n)
			continue
		}
		s.pool.put(buf)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return len(s.held) > 0
		case err != nil:
			s.err = err
			return true
		default:
			s.eof = true
			return true
		}
	}
	return true
}

// deliver hands what is pending to the socket. It returns false when the
// socket would take no more: the runtime then waits.
func (s *stream) deliver(fd uintptr) bool {
	for len(s.pending) > 0 {
		n, err := s.writev(int(fd), s.pending)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			if !s.waiting {
				s.waiting = true
				s.counters.inc(s.paused)
			}
			return false
		case err != nil:
			s.err = err
			return true
		default:
			s.counters.add(s.tx, n)
			s.counters.add(s.buffered, -n)
			s.pending = advance(s.pending, n)
		}
	}
	if s.waiting {
		s.waiting = false
		s.counters.inc(s.resumed)
	}
	return true
}

// advance takes n written bytes off the front of iovs.
func advance(iovs [][]byte, n int) [][]byte {
	for len(iovs) > 0 && n >= len(iovs[0]) {
		n -= len(iovs[0])
		iovs = iovs[1:]
	}
	if n > 0 {
		iovs[0] = iovs[0][n:]
	}
	return iovs
}

// release gives the slices of a turn back; after a failed write some of their
// bytes are still pending.
func (s *stream) release() {
	for _, p := range s.pending {
		s.counters.add(s.buffered, -len(p))
	}
	for _, buf := range s.held {
		s.pool.put(buf)
	}
	s.held, s.pending = nil, nil
}

// watch waits for a reset of from after its FIN, when nothing is read from it
// any more. It returns a *resetBy, or net.ErrClosed once the socket is closed.
// After a FIN recv(2) reports end of file for ever, so the socket's pending
// error is asked for.
func (s *stream) watch() error {
	var pending int
	err := s.from.raw.Read(func(fd uintptr) bool {
		e, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		pending = e
		return err != nil || e != 0
	})
	if err != nil {
		return err //nolint:wrapcheck // net.ErrClosed, as documented
	}
	return &resetBy{s.from.reset, os.NewSyscallError("reset after FIN", unix.Errno(pending))}
}
