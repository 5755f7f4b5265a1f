// What an Observer needs of the machine.

package evidence

import (
	"errors"
	"net/netip"

	"github.com/pmtulab/pmtulab/lab"
)

// Needs lists what an Observer needs, beside the nodes that it observes.
func Needs() []lab.Need {
	return []lab.Need{
		{
			Name: "inet-diag", What: "samples of TCP sockets (inet_diag)", Passive: true,
			Remedy:  "run on a kernel with CONFIG_INET_DIAG, or in a guest",
			Modules: []string{"inet_diag", "tcp_diag"},
			Try: func(n *lab.Node) (string, error) {
				// An answer about a socket that nobody has is an answer.
				nobody := netip.MustParseAddrPort("127.0.0.1:0")
				if _, err := Sample(n, nobody, nobody); !errors.Is(err, ErrNoSocket) {
					return "", err
				}
				return "", nil
			},
		},
		{
			Name: "af-packet", What: "packet captures (AF_PACKET)",
			Remedy:  "run as root (CAP_NET_RAW) on a kernel with CONFIG_PACKET, or in a guest",
			Modules: []string{"af_packet"},
			Try: func(n *lab.Node) (string, error) {
				return "", n.Do(func() error {
					c, err := openCapture(capture{node: n.Name(), slots: leastSlots, slotSize: headerSlot, most: 1})
					if err != nil {
						return err
					}
					return c.close()
				})
			},
		},
	}
}
