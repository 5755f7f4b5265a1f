// Package pcapng writes packet captures in the format that Wireshark reads
// (draft-ietf-opsawg-pcapng). Each function appends one block to a buffer, in
// the order in which a file has them: a section, its interfaces, names and
// secrets, packets, statistics. Every prefix of a file that ends with a block
// is a file.
package pcapng

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// LinkType says what the packets of an interface begin with; the numbers are
// those of https://www.tcpdump.org/linktypes.html.
type LinkType uint16

const (
	// Ethernet frames; Linux's lo has them too, with addresses of zeros.
	Ethernet LinkType = 1
	// RawIP packets have no link header.
	RawIP LinkType = 101
	// UpperPDU packets begin with the name of what reads them, see [Message].
	UpperPDU LinkType = 252
)

// Block types.
const (
	blockSection    = 0x0a0d0d0a
	blockInterface  = 1
	blockNames      = 4
	blockStatistics = 5
	blockPacket     = 6
	blockSecrets    = 10
)

// optComment is an option of every block; more than one may follow each other.
const optComment = 1

// Section is what is said about a capture as a whole.
type Section struct {
	// Comment may have several lines.
	Comment string
	// OS and Application are what the capture was made on and with.
	OS, Application string
}

// AppendSection begins a capture.
func AppendSection(b []byte, s Section) []byte {
	const optOS, optApplication = 3, 4
	b, start := begin(b, blockSection)
	b = binary.LittleEndian.AppendUint32(b, 0x1a2b3c4d) // byte order
	b = binary.LittleEndian.AppendUint16(b, 1)          // version 1.0
	b = binary.LittleEndian.AppendUint16(b, 0)
	b = binary.LittleEndian.AppendUint64(b, ^uint64(0)) // length not told
	options := len(b)
	b = appendText(b, optComment, s.Comment)
	b = appendText(b, optOS, s.OS)
	b = appendText(b, optApplication, s.Application)
	return end(b, start, options)
}

// Interface is where packets were seen.
type Interface struct {
	Name, Description string
	Link              LinkType
	// SnapLength bounds the bytes kept of each packet; 0 is no bound.
	SnapLength int
}

// AppendInterface describes the next interface; the first has number 0.
func AppendInterface(b []byte, i Interface) []byte {
	const optName, optDescription, optTimeResolution = 2, 3, 9
	b, start := begin(b, blockInterface)
	b = binary.LittleEndian.AppendUint16(b, uint16(i.Link))
	b = binary.LittleEndian.AppendUint16(b, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(i.SnapLength))
	options := len(b)
	b = appendText(b, optName, i.Name)
	b = appendText(b, optDescription, i.Description)
	b = appendOption(b, optTimeResolution, 9) // nanoseconds
	return end(b, start, options)
}

// Name is what an address is called.
type Name struct {
	Address netip.Addr
	Name    string
}

// AppendNames tells names of addresses.
func AppendNames(b []byte, names []Name) []byte {
	const recordEnd, recordIPv4, recordIPv6 = 0, 1, 2
	b, start := begin(b, blockNames)
	for _, n := range names {
		record := uint16(recordIPv6)
		if n.Address.Is4() {
			record = recordIPv4
		}
		value := append(n.Address.AsSlice(), n.Name...)
		b = appendOption(b, record, append(value, 0)...)
	}
	b = binary.LittleEndian.AppendUint32(b, recordEnd)
	return end(b, start, len(b))
}

// AppendSecrets tells the secrets of TLS connections whose packets follow, in
// the NSS key log format.
func AppendSecrets(b, keyLog []byte) []byte {
	const tlsKeyLog = 0x544c534b
	b, start := begin(b, blockSecrets)
	b = binary.LittleEndian.AppendUint32(b, tlsKeyLog)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(keyLog)))
	b = pad(append(b, keyLog...), len(keyLog))
	return end(b, start, len(b))
}

// Direction is which way a packet went.
type Direction uint32

const (
	Inbound  Direction = 1
	Outbound Direction = 2
)

// Packet is one packet on one interface.
type Packet struct {
	// Interface is its number.
	Interface int
	Time      time.Time
	// Length is that on the wire, Data what is kept of it.
	Length int
	Data   []byte
	// Direction and ID are left out when they are 0.
	Direction Direction
	ID        uint64
	Comments  []string
}

// AppendPacket adds a packet.
func AppendPacket(b []byte, p Packet) []byte {
	const optFlags, optID = 2, 5
	b, start := begin(b, blockPacket)
	b = binary.LittleEndian.AppendUint32(b, uint32(p.Interface))
	b = appendTime(b, p.Time)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(p.Data)))
	b = binary.LittleEndian.AppendUint32(b, uint32(p.Length))
	b = pad(append(b, p.Data...), len(p.Data))
	options := len(b)
	for _, c := range p.Comments {
		b = appendText(b, optComment, c)
	}
	if p.Direction != 0 {
		b = appendOption(b, optFlags, binary.LittleEndian.AppendUint32(nil, uint32(p.Direction))...)
	}
	if p.ID != 0 {
		b = appendOption(b, optID, binary.LittleEndian.AppendUint64(nil, p.ID)...)
	}
	return end(b, start, options)
}

// Statistics are what became of the packets of one interface.
type Statistics struct {
	// Interface is its number.
	Interface int
	Time      time.Time
	Comment   string
	// Received counts packets that the interface had. Dropped are those of
	// them that there was no room for, Delivered those in the file.
	Received, Dropped, Delivered int
}

// AppendStatistics adds statistics. What the kernel dropped goes where dumpcap
// puts it, isb_ifdrop: Wireshark shows no other.
func AppendStatistics(b []byte, s Statistics) []byte {
	const optReceived, optDropped, optDelivered = 4, 5, 8
	b, start := begin(b, blockStatistics)
	b = binary.LittleEndian.AppendUint32(b, uint32(s.Interface))
	b = appendTime(b, s.Time)
	options := len(b)
	b = appendText(b, optComment, s.Comment)
	for _, count := range []struct {
		option uint16
		n      int
	}{{optReceived, s.Received}, {optDropped, s.Dropped}, {optDelivered, s.Delivered}} {
		b = appendOption(b, count.option, binary.LittleEndian.AppendUint64(nil, uint64(count.n))...)
	}
	return end(b, start, options)
}

// begin begins a block, whose length end puts in.
func begin(b []byte, kind uint32) (_ []byte, start int) {
	start = len(b)
	b = binary.LittleEndian.AppendUint32(b, kind)
	return binary.LittleEndian.AppendUint32(b, 0), start
}

// end closes the block; options is where its options begin. A list of options
// ends with one that says so.
func end(b []byte, start, options int) []byte {
	const optEnd = 0
	if len(b) > options {
		b = binary.LittleEndian.AppendUint32(b, optEnd)
	}
	length := uint32(len(b) + 4 - start)
	binary.LittleEndian.PutUint32(b[start+4:], length)
	return binary.LittleEndian.AppendUint32(b, length)
}

// pad fills up to 32 bits what is n bytes long.
func pad(b []byte, n int) []byte { return append(b, make([]byte, -n&3)...) }

// appendText adds an option, unless it is empty.
func appendText(b []byte, code uint16, text string) []byte {
	if text == "" {
		return b
	}
	return appendOption(b, code, []byte(text)...)
}

// appendOption adds an option. What is longer than an option can be is cut.
func appendOption(b []byte, code uint16, value ...byte) []byte {
	value = value[:min(len(value), 1<<16-1)]
	b = binary.LittleEndian.AppendUint16(b, code)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
	return pad(append(b, value...), len(value))
}

// appendTime writes ns since 1970, the upper half first.
func appendTime(b []byte, t time.Time) []byte {
	ns := uint64(t.UnixNano())
	b = binary.LittleEndian.AppendUint32(b, uint32(ns>>32))
	return binary.LittleEndian.AppendUint32(b, uint32(ns))
}
