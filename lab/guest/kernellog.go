// A bounded log: the first part tells how the kernel came up, the last how it
// went down; what lies between may be dropped.

package guest

import "fmt"

const (
	logHead = 256 << 10
	logTail = 768 << 10
)

// boundedLog keeps the first logHead and the last logTail bytes written.
type boundedLog struct {
	head, tail []byte
	dropped    int
}

func (l *boundedLog) Write(b []byte) (int, error) {
	n := len(b)
	room := min(logHead-len(l.head), n)
	l.head = append(l.head, b[:room]...)
	l.tail = append(l.tail, b[room:]...)
	if excess := len(l.tail) - 2*logTail; excess > 0 { // amortised: move rarely
		l.trim()
	}
	return n, nil
}

func (l *boundedLog) trim() {
	if excess := len(l.tail) - logTail; excess > 0 {
		l.tail = append(l.tail[:0], l.tail[excess:]...)
		l.dropped += excess
	}
}

// bytes returns the log, with a line that counts what is missing.
func (l *boundedLog) bytes() []byte {
	l.trim()
	out := append([]byte(nil), l.head...)
	if l.dropped > 0 {
		out = fmt.Appendf(out, "\n[... %d bytes of kernel log dropped ...]\n", l.dropped)
	}
	return append(out, l.tail...)
}
