package watch

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab/evidence"
)

// What a second of watching costs on a machine with 1,000 TCP sockets, at the
// command's own interval of 100 ms: ten looks, one of which reads exceptions and
// counters as well.
func BenchmarkLook(b *testing.B) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	for range 500 {
		client, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		defer client.Close()
		server, err := listener.Accept()
		if err != nil {
			b.Fatal(err)
		}
		defer server.Close()
	}
	m, err := evidence.OpenMachine()
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	w := New(m)
	now := time.Now()
	before := processorTime(b)
	for b.Loop() {
		for range 10 {
			now = now.Add(100 * time.Millisecond)
			if _, err := w.Look(now); err != nil {
				b.Fatal(err)
			}
		}
	}
	used := processorTime(b) - before
	b.ReportMetric(100*used.Seconds()/float64(b.N), "%cpu")
}

// processorTime is what this process has used so far.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
