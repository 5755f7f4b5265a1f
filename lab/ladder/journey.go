// Journeys: which of the packets that interfaces saw are one and the same.

package ladder

import (
	"net/netip"

	"github.com/pmtulab/pmtulab/lab/record"
)

// journey is one packet on its way, as one interface after the other saw it.
type journey []record.Event

// transit is the longest time between two sightings of one packet. A copy takes
// microseconds through a lab; the shortest timer that sends the same bytes
// again takes 200 ms.
const transit = record.Ms(10)

// identity tells packets apart: what no hop on the way changes.
type identity struct {
	source, destination netip.Addr
	protocol            uint8
	length              int
	tcp, quoted         record.TCP
	icmpType, icmpCode  uint8
	mtu                 int
}

func identify(p *record.Packet) identity {
	id := identity{source: p.Source, destination: p.Destination, protocol: p.Protocol, length: p.Length}
	if p.TCP != nil {
		id.tcp = *p.TCP
	}
	if p.ICMP != nil {
		id.icmpType, id.icmpCode, id.mtu = p.ICMP.Type, p.ICMP.Code, p.ICMP.MTU
		if q := p.ICMP.Quoted; q != nil && q.TCP != nil {
			id.quoted = *q.TCP
		}
	}
	return id
}

// innermost is the packet within all tunnels.
func innermost(p *record.Packet) *record.Packet {
	for p.Inner != nil {
		p = p.Inner
	}
	return p
}

// journeys gathers the sightings of each packet, in the order of the first.
// Events are in the order of time. Packets that cannot be told apart, as a
// segment that is sent again, are told apart by where they were seen already.
func journeys(events []record.Event) []journey {
	var all []journey
	open := map[identity][]int{}
	for _, e := range events {
		if e.Packet == nil {
			continue
		}
		id := identify(innermost(e.Packet))
		at := -1
		for _, i := range open[id] {
			if all[i].leadsTo(e) {
				at = i
				break
			}
		}
		if at < 0 {
			at = len(all)
			all = append(all, nil)
			open[id] = append(open[id], at)
		}
		all[at] = append(all[at], e)
	}
	return all
}

// leadsTo tells whether e can be the next sighting of j.
func (j journey) leadsTo(e record.Event) bool {
	if e.At-j[len(j)-1].At > transit {
		return false
	}
	for _, seen := range j {
		if seen.Node == e.Node && seen.Interface == e.Interface && seen.Packet.Out == e.Packet.Out {
			return false
		}
	}
	return true
}
