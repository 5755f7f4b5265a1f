package evidence

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/pmtulab/pmtulab/lab/record"
)

const (
	// framesMemory bounds what the frames of all nodes take: their bytes, and
	// frameMemory beside them for each.
	framesMemory = 32 << 20
	frameMemory  = 128
	// frameBlock is how much is allocated at a time. In User-Mode Linux the
	// first touch of each of its pages costs 40 µs.
	frameBlock = 64 << 10
)

// frames keeps the bytes of packets, copied once, from the ring. It is shared
// by the captures of all nodes.
type frames struct {
	// snap bounds the bytes of a frame; headersOnly ends them where payload
	// begins.
	snap        int
	headersOnly bool
	// left is how much memory is left, block the last that was allocated.
	left  int
	block []byte
	// omitted counts frames that came after a limit.
	omitted int
}

func newFrames(snap int, headersOnly bool) *frames {
	return &frames{snap: snap, headersOnly: headersOnly, left: framesMemory}
}

// keep is a copy of data, or nil when there is no memory left for it.
func (f *frames) keep(data []byte) []byte {
	data = data[:min(len(data), f.snap)]
	if len(data)+frameMemory > f.left {
		f.omitted++
		return nil
	}
	f.left -= len(data) + frameMemory
	if len(data) > cap(f.block)-len(f.block) {
		f.block = make([]byte, 0, max(frameBlock, len(data)))
	}
	from := len(f.block)
	f.block = append(f.block, data...)
	return f.block[from:len(f.block):len(f.block)]
}

// capture is what was kept of the packets of all nodes. The events have their
// numbers.
func (f *frames) capture(sources []*source, events []record.Event) *record.Capture {
	ids := make(map[*record.Packet]string, len(events))
	for _, e := range events {
		if e.Packet != nil {
			ids[e.Packet] = e.ID
		}
	}
	c := &record.Capture{SnapLength: f.snap, Redacted: f.headersOnly, Omitted: f.omitted, Dropped: map[string]int{}}
	for _, s := range sources {
		c.Dropped[s.name] = s.packets.dropped
		numbers := map[*device]int{}
		byName := func(a, b *device) int { return cmp.Compare(a.name, b.name) }
		for _, d := range slices.SortedFunc(maps.Values(s.packets.devices), byName) {
			if d.received > 0 {
				numbers[d] = len(c.Interfaces)
				c.Interfaces = append(c.Interfaces, record.CaptureInterface{
					Node: s.name, Name: d.name, Ethernet: d.ethernet, Received: d.received,
				})
			}
		}
		for _, p := range s.packets.packets {
			if p.data == nil {
				continue
			}
			c.Frames = append(c.Frames, record.Frame{
				ID: ids[p.packet], Interface: numbers[p.device], Time: time.Unix(0, p.realtime),
				Out: p.out, Length: p.length, Data: p.data,
			})
		}
	}
	slices.SortStableFunc(c.Frames, func(a, b record.Frame) int { return a.Time.Compare(b.Time) })
	return c
}
