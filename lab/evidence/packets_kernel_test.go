//go:build linux && kernel

package evidence

import (
	"errors"
	"net"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab/capability"
)

// smallRing is the number of slots in the rings of these tests.
const smallRing = leastRing / headerSlot

// A ring that nobody empties overflows, and says by how much.
func TestFullRingIsALoss(t *testing.T) {
	c, send := loopbackCapture(t)
	send(smallRing) // twice on lo, out and in
	c.drain()
	losses, err := c.losses()
	if err != nil {
		t.Fatal(err)
	}
	if len(losses) != 1 || losses[0].Count != smallRing || losses[0].Source != "packets" || losses[0].Node != "client" {
		t.Errorf("losses %+v, want %d packets", losses, smallRing)
	}
	if len(c.packets) != smallRing/2 {
		t.Errorf("%d packets, want the first %d", len(c.packets), smallRing/2)
	}
}

// A ring that is emptied loses nothing, however often it goes round, and takes
// no packet twice.
func TestRingGoesRound(t *testing.T) {
	c, send := loopbackCapture(t)
	const batch = smallRing / 2 * 9 / 10 / 2 // nearly half a ring, out and in
	sent := 0
	for sent < 3*smallRing {
		send(batch)
		sent += batch
		c.drain()
	}
	losses, err := c.losses()
	if err != nil || len(losses) > 0 {
		t.Errorf("losses %+v, error %v", losses, err)
	}
	if len(c.packets) != sent {
		t.Errorf("%d packets, %d were sent", len(c.packets), sent)
	}
	for i := 1; i < len(c.packets); i++ {
		if c.packets[i].realtime <= c.packets[i-1].realtime {
			t.Fatalf("packet %d is not later than the one before", i)
		}
	}
}

// loopbackCapture captures in a namespace of its own, in which send sends
// datagrams on lo.
func loopbackCapture(t *testing.T) (c *capture, send func(count int)) {
	t.Helper()
	result := make(chan error)
	var conn net.PacketConn
	go func() {
		runtime.LockOSThread() // and never back: the thread is in a namespace of its own
		result <- func() (err error) {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return os.NewSyscallError("unshare", err)
			}
			if err := loopbackUp(); err != nil {
				return err
			}
			if c, err = openCapture(capture{node: "client", slots: smallRing, slotSize: headerSlot, most: 1 << 20}); err != nil {
				return err
			}
			var config net.ListenConfig
			conn, err = config.ListenPacket(t.Context(), "udp4", "127.0.0.1:0")
			return err
		}()
	}()
	err := <-result
	if errors.Is(err, unix.EPERM) {
		capability.Missing(t, err, "netns")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.close(); conn.Close() })
	return c, func(count int) {
		t.Helper()
		for range count {
			if _, err := conn.WriteTo([]byte{0}, conn.LocalAddr()); err != nil {
				t.Fatal(err)
			}
			if _, _, err := conn.ReadFrom(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	lo, err := unix.NewIfreq("lo")
	if err == nil {
		lo.SetUint16(unix.IFF_UP)
		err = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
	}
	return errors.Join(err, unix.Close(fd))
}
