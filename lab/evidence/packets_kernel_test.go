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

// A ring that nobody empties overflows, and says by how much.
func TestFullRingIsALoss(t *testing.T) {
	result := make(chan error)
	var c *capture
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
			if c, err = openCapture("client", nil, leastSlots, 1<<20); err != nil {
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
	defer c.close()
	defer conn.Close()
	const sent = leastSlots // twice on lo, out and in
	for range sent {
		if _, err := conn.WriteTo([]byte{0}, conn.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		if _, _, err := conn.ReadFrom(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	c.drain()
	losses, err := c.losses()
	if err != nil {
		t.Fatal(err)
	}
	if len(losses) != 1 || losses[0].Count != leastSlots || losses[0].Source != "packets" || losses[0].Node != "client" {
		t.Errorf("losses %+v, want %d packets", losses, leastSlots)
	}
	if len(c.packets) != leastSlots/2 {
		t.Errorf("%d packets, want the first %d", len(c.packets), leastSlots/2)
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
