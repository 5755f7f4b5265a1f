// A bounded log: the first part tells how the kernel came up, the last how it
// went down; what lies between may be dropped.

package guest

import (
	"fmt"
	"sync"
)

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

// consoleLog is what came from a guest's console: what the kernel wrote by
// itself and, after ask, what it was made to write.
type consoleLog struct {
	mu      sync.Mutex
	log     boundedLog
	written int
	before  []byte // of the first ask
	isAsked bool
	asked   boundedLog
}

func (c *consoleLog) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.written += len(b)
	if c.isAsked {
		_, _ = c.asked.Write(b)
	}
	return c.log.Write(b)
}

// ask marks the end of what the kernel wrote by itself.
func (c *consoleLog) ask() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.before, c.isAsked = c.log.bytes(), true
}

// len counts all bytes so far.
func (c *consoleLog) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.written
}

// bytes is all of the log.
func (c *consoleLog) bytes() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log.bytes()
}

// own is what the kernel wrote by itself.
func (c *consoleLog) own() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isAsked {
		return c.before
	}
	return c.log.bytes()
}

// answer is what it was made to write.
func (c *consoleLog) answer() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked.bytes()
}
