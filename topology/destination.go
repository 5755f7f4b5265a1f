// The destination of a route, written as ip-route(8) writes it.

package topology

import (
	"fmt"
	"net/netip"
)

// Default is the destination of a default route, 0.0.0.0/0.
func Default() Destination {
	return Destination{netip.PrefixFrom(netip.IPv4Unspecified(), 0)}
}

// ParseDestination reads "default", a prefix, or an address, which stands for
// itself alone.
func ParseDestination(text string) (Destination, error) {
	if text == "default" {
		return Default(), nil
	}
	if prefix, err := netip.ParsePrefix(text); err == nil {
		return Destination{prefix}, nil
	}
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" {
		return Destination{}, fmt.Errorf("parse destination %q: write default, a prefix or an address", text)
	}
	return Destination{netip.PrefixFrom(addr, addr.BitLen())}, nil
}

// String is "default" or the prefix; "" for the zero value.
func (d Destination) String() string {
	switch {
	case d == Default():
		return "default"
	case !d.IsValid():
		return ""
	default:
		return d.Prefix.String()
	}
}

// MarshalText is String as bytes.
func (d Destination) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText is ParseDestination; empty text is the zero value.
func (d *Destination) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*d = Destination{}
		return nil
	}
	parsed, err := ParseDestination(string(text))
	*d = parsed
	return err
}
