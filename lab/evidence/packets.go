package evidence

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab/record"
)

// The ring of one node. TPACKET_V2 has one slot for each packet, which is the
// reader's as soon as the kernel has filled it: what was sent before a moment
// is in the ring at that moment. TPACKET_V3 is denser, but hands packets over
// in blocks, when a timer says so. Reading needs no system call in either.
const (
	// slotSize holds the headers of linux/if_packet.h (80 bytes) and the first
	// 176 bytes of a packet: an ICMP that quotes IP and TCP with all options,
	// 148 bytes, also within a tunnel. In User-Mode Linux the first touch of
	// a page costs 0.2 ms, so larger slots show: 30 against 17 µs a packet.
	slotSize = 256
	// slotAddress is where a slot has its struct sockaddr_ll:
	// TPACKET_ALIGN(sizeof(struct tpacket2_hdr)).
	slotAddress = 32
	blockSize   = 64 << 10
	// A node has a ring of 8192 slots, 2 MiB of kernel memory that cannot be
	// swapped out; large labs share 32 MiB, but 1024 slots are the least.
	mostSlots, leastSlots = 8192, 1024
	memory                = 32 << 20
)

// ringSlots is the number of slots for each of a number of nodes.
func ringSlots(nodes int) int {
	const perBlock = blockSize / slotSize
	slots := memory / slotSize / max(1, nodes)
	return max(leastSlots, min(mostSlots, slots/perBlock*perBlock))
}

// capture is the packet source of one node. It is for one goroutine at a time.
type capture struct {
	node  string
	fd    int
	ring  []byte
	slots int
	next  int // slot
	// only holds the names of the wanted interfaces; empty means all.
	only       []string
	interfaces map[int]string
	// most bounds packets; what came after is counted in tooMany.
	most     int
	packets  []sighting
	tooMany  int
	notIPv4  int
	captured int
}

// sighting is a packet and when and where it was seen.
type sighting struct {
	realtime int64 // ns since 1970
	device   string
	packet   *record.Packet
}

// openCapture starts to capture on all interfaces, present and future, of the
// calling thread's namespace. The caller closes it.
func openCapture(node string, only []string, slots, most int) (*capture, error) {
	// Protocol 0 receives nothing until bind: no packet comes before the ring.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket (it needs CAP_NET_RAW in the node): %w", err)
	}
	c := &capture{node: node, fd: fd, slots: slots, only: only, most: most, interfaces: map[int]string{}}
	if err := c.start(); err != nil {
		_ = c.close()
		return nil, err
	}
	return c, nil
}

func (c *capture) start() error {
	if err := unix.SetsockoptInt(c.fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2); err != nil {
		return fmt.Errorf("choose the version of a packet ring: %w", err)
	}
	ring := unix.TpacketReq{
		Block_size: blockSize, Block_nr: uint32(c.slots * slotSize / blockSize),
		Frame_size: slotSize, Frame_nr: uint32(c.slots),
	}
	if err := unix.SetsockoptTpacketReq(c.fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &ring); err != nil {
		return fmt.Errorf("make a packet ring of %d KiB: %w", c.slots*slotSize>>10, err)
	}
	var err error
	if c.ring, err = unix.Mmap(c.fd, 0, c.slots*slotSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("map a packet ring: %w", err)
	}
	all := &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL)}
	if err := unix.Bind(c.fd, all); err != nil {
		return fmt.Errorf("start a packet capture: %w", err)
	}
	return nil
}

func (c *capture) close() error {
	if c.ring != nil {
		_ = unix.Munmap(c.ring)
		c.ring = nil
	}
	if err := unix.Close(c.fd); err != nil {
		return fmt.Errorf("close a packet socket: %w", err)
	}
	return nil
}

// drain takes over what the kernel has captured so far.
func (c *capture) drain() {
	for {
		slot := c.ring[c.next*slotSize:][:slotSize]
		status := (*uint32)(unsafe.Pointer(&slot[0]))
		// The kernel writes the status last, behind a barrier.
		if atomic.LoadUint32(status)&unix.TP_STATUS_USER == 0 {
			return
		}
		c.take(slot)
		atomic.StoreUint32(status, unix.TP_STATUS_KERNEL)
		c.next = (c.next + 1) % c.slots
	}
}

// take records the packet in slot, if it is wanted.
func (c *capture) take(slot []byte) {
	header := (*unix.Tpacket2Hdr)(unsafe.Pointer(&slot[0]))
	address := (*unix.RawSockaddrLinklayer)(unsafe.Pointer(&slot[slotAddress]))
	out := address.Pkttype == unix.PACKET_OUTGOING
	if out && address.Hatype == unix.ARPHRD_LOOPBACK {
		return // comes in as well, and is recorded then
	}
	device := c.device(int(address.Ifindex))
	if len(c.only) > 0 && !slices.Contains(c.only, device) {
		return
	}
	c.captured++
	if address.Protocol != networkOrder(unix.ETH_P_IP) {
		c.notIPv4++
		return
	}
	if len(c.packets) >= c.most {
		c.tooMany++
		return
	}
	from := int(header.Net)
	to := min(from+int(header.Snaplen), len(slot))
	if from > to {
		return
	}
	packet := decode(slot[from:to])
	if packet == nil {
		c.notIPv4++
		return
	}
	if packet.Length == 0 {
		packet.Length = int(header.Len) // an aggregate of more than 64 KiB
	}
	packet.Out = out
	c.packets = append(c.packets, sighting{
		realtime: int64(header.Sec)*1e9 + int64(header.Nsec), device: device, packet: packet,
	})
}

func (c *capture) device(index int) string {
	name, ok := c.interfaces[index]
	if !ok {
		name = interfaceName(c.fd, index)
		c.interfaces[index] = name
	}
	return name
}

// losses are the packets that the kernel or the limit dropped. The kernel
// forgets its count when it is read.
func (c *capture) losses() ([]record.Loss, error) {
	stats, err := unix.GetsockoptTpacketStats(c.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return nil, fmt.Errorf("ask for the drops of the packet capture in %s: %w", c.node, err)
	}
	var losses []record.Loss
	if stats.Drops > 0 {
		losses = append(losses, record.Loss{
			Source: "packets", Node: c.node, Count: int(stats.Drops),
			Detail: fmt.Sprintf("the ring of %d packets was full", c.slots),
		})
	}
	if c.tooMany > 0 {
		losses = append(losses, record.Loss{
			Source: "packets", Node: c.node, Count: c.tooMany,
			Detail: fmt.Sprintf("came after the limit of %d packets for a node", c.most),
		})
	}
	return losses, nil
}

// events are the packets on the clock of the run.
func (c *capture) events(clock *clock) []record.Event {
	events := make([]record.Event, 0, len(c.packets))
	for _, s := range c.packets {
		events = append(events, record.Event{
			At: clock.moment(s.realtime), Node: c.node, Interface: s.device,
			Packet: s.packet, Text: packetText(s.packet),
		})
	}
	return events
}

// networkOrder is htons.
func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}
