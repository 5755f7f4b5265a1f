package evidence

import (
	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab/record"
)

// headers is how many bytes of data, a packet of an Ethernet protocol, are
// headers: all that decode reads, and nothing that an application wrote. Of a
// protocol that decode does not read, not even the header counts. p is what
// decode made of data, nil when that is not IPv4.
func headers(protocol uint16, p *record.Packet, data []byte) int {
	const fixedIPv6 = 40
	switch {
	case p != nil:
		return min(headersIPv4(p, data), len(data))
	case protocol == unix.ETH_P_ARP: // it is nothing else
		return len(data)
	case protocol == unix.ETH_P_IPV6:
		return min(fixedIPv6, len(data))
	default:
		return 0
	}
}

// headersIPv4 may be more than there is of data.
func headersIPv4(p *record.Packet, data []byte) int {
	n := int(data[0]&15) * 4
	switch {
	case p.TCP != nil:
		const fixed, offset = 20, 12
		if len(data) < n+fixed {
			return len(data) // as much as an ICMP quotes
		}
		return n + max(fixed, int(data[n+offset]>>4)*4)
	case p.ICMP != nil:
		const fixed = 8
		n += fixed
		if p.ICMP.Quoted != nil {
			n += headersIPv4(p.ICMP.Quoted, data[n:])
		}
		return n
	case p.Inner != nil:
		return n + headersIPv4(p.Inner, data[n:])
	default:
		return n
	}
}
