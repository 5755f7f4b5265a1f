package evidence

import (
	"encoding/binary"
	"fmt"
	"math/bits"
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
	// headerSlot is the size of a slot that holds the headers of
	// linux/if_packet.h and of the link (slotHeaders) and the first 176 bytes
	// of a packet: an ICMP that quotes IP and TCP with all options, 148 bytes,
	// also within a tunnel.
	headerSlot  = 256
	slotHeaders = 80
	// slotAddress is where a slot has its struct sockaddr_ll:
	// TPACKET_ALIGN(sizeof(struct tpacket2_hdr)).
	slotAddress = 32
	blockSize   = 64 << 10
	// A node has a ring of 4 MiB of kernel memory that cannot be swapped out,
	// 16384 slots for headers, half of which may wait to be released, or more
	// for 1024 large slots; all nodes share 32 MiB, but 256 KiB and 256 slots
	// are the least.
	fullRing, fullSlots   = 4 << 20, 1024
	leastRing, leastSlots = 256 << 10, 256
	memory                = 32 << 20
)

// slotSize is the size of a slot that holds the first snap bytes of a frame, or
// the headers when that is more, but 16 KiB at most: a power of two, so that
// slots fill blocks.
func slotSize(snap int) int {
	need := max(headerSlot, min(slotHeaders+snap, 16<<10))
	return 1 << bits.Len(uint(need-1))
}

// ringSlots is the number of slots of a size for each of a number of nodes.
func ringSlots(nodes, slot int) int {
	share := memory / max(1, nodes) / blockSize * blockSize
	return max(min(share, max(fullRing, fullSlots*slot)), leastRing, leastSlots*slot) / slot
}

// capture is the packet source of one node. It is for one goroutine at a time.
type capture struct {
	node     string
	fd       int
	ring     []byte
	slots    int
	slotSize int
	// next is the slot to take, taken how many before it are to be released.
	next, taken int
	// only holds the names of the wanted interfaces; empty means all.
	only []string
	// devices are the interfaces by index.
	devices map[int]*device
	// frames keeps the bytes of packets, unless it is nil.
	frames *frames
	// most bounds packets; what came after is counted in tooMany.
	most     int
	packets  []sighting
	tooMany  int
	notIPv4  int
	captured int
	// dropped counts what the kernel had no slot for.
	dropped int
}

// sighting is a packet and when and where it was seen.
type sighting struct {
	realtime int64 // ns since 1970
	device   *device
	out      bool
	// packet is nil when it is not IPv4: only data makes it worth keeping.
	packet *record.Packet
	// data are the first bytes of the frame, of which there were length; nil
	// when they are not kept.
	data   []byte
	length int
}

// device is an interface that a packet was seen on, wanted or not.
type device struct {
	name string
	// ethernet tells that frames have an Ethernet header, as on lo too.
	ethernet bool
	// received counts the packets that were wanted.
	received int
}

// openCapture makes c capture on all interfaces, present and future, of the
// calling thread's namespace. The caller closes it.
func openCapture(c capture) (*capture, error) {
	// Protocol 0 receives nothing until bind: no packet comes before the ring.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket (it needs CAP_NET_RAW in the node): %w", err)
	}
	c.fd, c.devices = fd, map[int]*device{}
	if err := c.start(); err != nil {
		_ = c.close()
		return nil, err
	}
	return &c, nil
}

func (c *capture) start() error {
	if err := unix.SetsockoptInt(c.fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2); err != nil {
		return fmt.Errorf("choose the version of a packet ring: %w", err)
	}
	ring := unix.TpacketReq{
		Block_size: blockSize, Block_nr: uint32(c.slots * c.slotSize / blockSize),
		Frame_size: uint32(c.slotSize), Frame_nr: uint32(c.slots),
	}
	if err := unix.SetsockoptTpacketReq(c.fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &ring); err != nil {
		return fmt.Errorf("make a packet ring of %d KiB: %w", c.slots*c.slotSize>>10, err)
	}
	var err error
	if c.ring, err = unix.Mmap(c.fd, 0, c.slots*c.slotSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("map a packet ring: %w", err)
	}
	// In User-Mode Linux a change of protection maps all pages at once, 4 MiB
	// in 0.1 ms; else each page costs 40 µs when it is first read.
	for _, protection := range []int{unix.PROT_READ, unix.PROT_READ | unix.PROT_WRITE} {
		if err := unix.Mprotect(c.ring, protection); err != nil {
			return fmt.Errorf("map a packet ring: %w", err)
		}
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

// drain takes over what the kernel has captured so far. Slots go back to the
// kernel half a ring at a time: the first write to a page costs 45 µs in
// User-Mode Linux, and a short run makes none.
func (c *capture) drain() {
	for {
		slot, status := c.slot(c.next)
		// The kernel writes the status last, behind a barrier.
		if atomic.LoadUint32(status)&unix.TP_STATUS_USER == 0 {
			return
		}
		c.take(slot)
		c.next = (c.next + 1) % c.slots
		if c.taken++; c.taken == c.slots/2 {
			c.release()
		}
	}
}

// release gives the slots back that were taken.
func (c *capture) release() {
	for ; c.taken > 0; c.taken-- {
		_, status := c.slot((c.next - c.taken + c.slots) % c.slots)
		atomic.StoreUint32(status, unix.TP_STATUS_KERNEL)
	}
}

// slot is a slot of the ring and its status.
func (c *capture) slot(n int) ([]byte, *uint32) {
	slot := c.ring[n*c.slotSize:][:c.slotSize]
	return slot, (*uint32)(unsafe.Pointer(&slot[0]))
}

// take records the packet in slot, if it is wanted.
func (c *capture) take(slot []byte) {
	header := (*unix.Tpacket2Hdr)(unsafe.Pointer(&slot[0]))
	address := (*unix.RawSockaddrLinklayer)(unsafe.Pointer(&slot[slotAddress]))
	out := address.Pkttype == unix.PACKET_OUTGOING
	if out && address.Hatype == unix.ARPHRD_LOOPBACK {
		return // comes in as well, and is recorded then
	}
	d := c.device(address)
	if len(c.only) > 0 && !slices.Contains(c.only, d.name) {
		return
	}
	c.captured++
	d.received++
	link, network := int(header.Mac), int(header.Net)
	to := min(link+int(header.Snaplen), len(slot))
	if network > to {
		return
	}
	if !d.ethernet {
		link = network // a tunnel's; what is before IP is nothing
	}
	seen := sighting{
		realtime: int64(header.Sec)*1e9 + int64(header.Nsec), device: d, out: out,
		length: int(header.Len) - (link - int(header.Mac)),
	}
	protocol := networkOrder(address.Protocol)
	if protocol == unix.ETH_P_IP {
		seen.packet = decode(slot[network:to])
	}
	if seen.packet == nil {
		c.notIPv4++
	} else if seen.packet.Out = out; seen.packet.Length == 0 {
		seen.packet.Length = seen.length - (network - link) // an aggregate of more than 64 KiB
	}
	if len(c.packets) >= c.most {
		if seen.packet != nil {
			c.tooMany++
		}
		if c.frames != nil {
			c.frames.omitted++
		}
		return
	}
	if c.frames != nil {
		if c.frames.headersOnly {
			to = network + headers(protocol, seen.packet, slot[network:to])
		}
		seen.data = c.frames.keep(slot[link:to])
	}
	if seen.packet != nil || seen.data != nil {
		c.packets = append(c.packets, seen)
	}
}

// device is the interface that a packet was seen on, by its address.
func (c *capture) device(address *unix.RawSockaddrLinklayer) *device {
	index := int(address.Ifindex)
	d, ok := c.devices[index]
	if !ok {
		d = &device{
			name:     interfaceName(c.fd, index),
			ethernet: address.Hatype == unix.ARPHRD_ETHER || address.Hatype == unix.ARPHRD_LOOPBACK,
		}
		c.devices[index] = d
	}
	return d
}

// losses are the packets that the kernel or the limit dropped. The kernel
// forgets its count when it is read.
func (c *capture) losses() ([]record.Loss, error) {
	stats, err := unix.GetsockoptTpacketStats(c.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return nil, fmt.Errorf("ask for the drops of the packet capture in %s: %w", c.node, err)
	}
	c.dropped += int(stats.Drops)
	var losses []record.Loss
	if c.dropped > 0 {
		losses = append(losses, record.Loss{
			Source: "packets", Node: c.node, Count: c.dropped,
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
		if s.packet == nil {
			continue
		}
		events = append(events, record.Event{
			At: clock.moment(s.realtime), Node: c.node, Interface: s.device.name,
			Packet: s.packet, Text: packetText(s.packet),
		})
	}
	return events
}

// networkOrder is htons.
func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}
