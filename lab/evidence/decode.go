package evidence

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/pmtulab/pmtulab/lab/record"
)

// maxNesting bounds tunnels in tunnels and quotes in quotes. Three make an
// ICMP that quotes an IPIP packet; more is nothing that the lab builds.
const maxNesting = 4

// decode reads an IPv4 packet (RFC 791) that may be cut short at any byte:
// what is there is decoded, the rest stays zero. It returns nil when not even
// the fixed header of an IPv4 packet is there.
func decode(data []byte) *record.Packet { return decodeIPv4(data, maxNesting) }

func decodeIPv4(data []byte, depth int) *record.Packet {
	const fixed = 20
	if len(data) < fixed || data[0]>>4 != 4 {
		return nil
	}
	header := int(data[0]&15) * 4
	if header < fixed {
		return nil
	}
	const dontFragment, moreFragments, offset = 0x4000, 0x2000, 0x1fff
	fragment := binary.BigEndian.Uint16(data[6:])
	p := &record.Packet{
		Source:      netip.AddrFrom4([4]byte(data[12:16])),
		Destination: netip.AddrFrom4([4]byte(data[16:20])),
		Length:      int(binary.BigEndian.Uint16(data[2:])),
		DF:          fragment&dontFragment != 0,
		Fragment:    fragment&(moreFragments|offset) != 0,
		Protocol:    data[9],
	}
	if fragment&offset != 0 || header > len(data) || depth == 1 {
		return p // no further header here: a later fragment, or cut short
	}
	// Behind the total length there is padding of the link, or nothing. A
	// length of 0 is that of an aggregate of more than 64 KiB (BIG TCP).
	body := data[header:]
	if p.Length >= header {
		body = body[:min(len(body), p.Length-header)]
	}
	switch p.Protocol {
	case 1:
		p.ICMP = decodeICMP(body, depth-1)
	case 4:
		p.Inner = decodeIPv4(body, depth-1)
	case 6:
		p.TCP = decodeTCP(body, p.Length-header)
	}
	return p
}

// decodeICMP reads an ICMP message (RFC 792) and the packet quoted by an error.
func decodeICMP(data []byte, depth int) *record.ICMP {
	if len(data) < 2 {
		return nil
	}
	icmp := &record.ICMP{Type: data[0], Code: data[1]}
	const header = 8
	if len(data) < header {
		return icmp
	}
	const unreachable, fragNeeded, quench, redirect, exceeded, parameter = 3, 4, 4, 5, 11, 12
	switch icmp.Type {
	case unreachable, quench, redirect, exceeded, parameter:
		icmp.Quoted = decodeIPv4(data[header:], depth)
	}
	if icmp.Type == unreachable && icmp.Code == fragNeeded {
		icmp.MTU = int(binary.BigEndian.Uint16(data[6:]))
	}
	return icmp
}

// decodeTCP reads a TCP header (RFC 9293 §3.1). length is that of header and
// payload as the IP header tells it; the payload itself need not be there. An
// ICMP quotes at least 8 bytes of it: ports and sequence number (RFC 792).
func decodeTCP(data []byte, length int) *record.TCP {
	if len(data) < 8 {
		return nil
	}
	tcp := &record.TCP{
		SourcePort:      binary.BigEndian.Uint16(data[0:]),
		DestinationPort: binary.BigEndian.Uint16(data[2:]),
		Seq:             binary.BigEndian.Uint32(data[4:]),
	}
	const fixed = 20
	if len(data) < fixed {
		return tcp
	}
	tcp.Ack = binary.BigEndian.Uint32(data[8:])
	tcp.Flags = flags(data[13])
	tcp.Window = binary.BigEndian.Uint16(data[14:])
	header := int(data[12]>>4) * 4
	if header < fixed {
		return tcp
	}
	tcp.Payload = max(0, length-header)
	decodeOptions(tcp, data[fixed:min(header, len(data))])
	return tcp
}

func decodeOptions(tcp *record.TCP, options []byte) {
	const end, noop, mss, timestamps = 0, 1, 2, 8
	for len(options) > 0 && options[0] != end {
		if options[0] == noop {
			options = options[1:]
			continue
		}
		if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
			return
		}
		kind, length := options[0], int(options[1])
		switch {
		case kind == mss && length == 4:
			tcp.MSS = binary.BigEndian.Uint16(options[2:])
		case kind == timestamps && length == 10:
			tcp.Timestamps = true
		}
		options = options[length:]
	}
}

// flags writes TCP flags in tcpdump's letters and order.
func flags(bits uint8) string {
	const letters = "FSRP.UEW" // from the lowest bit
	var b [len(letters)]byte
	set := b[:0]
	for i := range len(letters) {
		if bits&(1<<i) != 0 {
			set = append(set, letters[i])
		}
	}
	return string(set)
}

// packetText says a packet in one line.
func packetText(p *record.Packet) string {
	var b strings.Builder
	writePacket(&b, p)
	return b.String()
}

func writePacket(b *strings.Builder, p *record.Packet) {
	src, dst, ok := p.Endpoints()
	if ok {
		fmt.Fprintf(b, "%s > %s", src, dst)
	} else {
		fmt.Fprintf(b, "%s > %s", p.Source, p.Destination)
	}
	switch {
	case p.TCP != nil:
		fmt.Fprintf(b, " [%s] seq %d ack %d payload %d", p.TCP.Flags, p.TCP.Seq, p.TCP.Ack, p.TCP.Payload)
		if p.TCP.MSS != 0 {
			fmt.Fprintf(b, " mss %d", p.TCP.MSS)
		}
	case p.FragNeeded():
		fmt.Fprintf(b, " ICMP frag-needed mtu %d", p.ICMP.MTU)
	case p.ICMP != nil:
		fmt.Fprintf(b, " ICMP type %d code %d", p.ICMP.Type, p.ICMP.Code)
	case p.Inner != nil:
		b.WriteString(" IPIP")
	default:
		fmt.Fprintf(b, " protocol %d", p.Protocol)
	}
	fmt.Fprintf(b, " length %d", p.Length)
	if p.DF {
		b.WriteString(" DF")
	}
	if p.Fragment {
		b.WriteString(" fragment")
	}
	switch {
	case p.Inner != nil:
		b.WriteString(" (")
		writePacket(b, p.Inner)
		b.WriteString(")")
	case p.ICMP != nil && p.ICMP.Quoted != nil:
		b.WriteString(" quoting (")
		writePacket(b, p.ICMP.Quoted)
		b.WriteString(")")
	}
}
