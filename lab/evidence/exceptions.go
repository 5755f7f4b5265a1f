package evidence

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab/record"
)

// ErrNoExceptionDump is the error of Exceptions on a kernel before 5.3, whose
// dump never holds exceptions: an empty answer would be read as proof of none.
var ErrNoExceptionDump = errors.New("this kernel does not dump IPv4 route exceptions: Linux 5.3 or later is needed")

// userHz is the unit of rta_expires, USER_HZ ticks a second. It is 100 on
// every architecture but alpha, whatever the kernel's own HZ is
// (jiffies_to_clock_t in rtnl_put_cacheinfo, net/core/rtnetlink.c).
const userHz = 100

// Exceptions reads the IPv4 PMTU exceptions of one node: what it has learned
// about the path MTU of single destinations. It dumps them and looks no route
// up, since a look-up would delete an expired exception. Expired ones, and
// those that no cached route is bound to, are not in the kernel's dump
// (fnhe_dump_bucket in net/ipv4/route.c): no row is not proof of no exception.
func Exceptions(n Node) ([]record.Exception, error) {
	var found []record.Exception
	err := n.Do(func() error {
		routes, err := openRoutes()
		if err != nil {
			return err
		}
		found, err = dumpExceptions(routes, n.Name())
		return errors.Join(err, routes.close())
	})
	if err != nil {
		return nil, fmt.Errorf("read the PMTU exceptions of %s: %w", n.Name(), err)
	}
	return found, nil
}

// openRoutes opens a socket to the routes of the calling thread's namespace.
// The caller closes it.
func openRoutes() (*netlinkSocket, error) {
	if err := checkExceptionDump(); err != nil {
		return nil, err
	}
	s, err := openNetlink(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	// With strict checking the kernel leaves the ordinary routes out of a dump
	// that asks for cloned ones (ip_valid_fib_dump_req).
	if err := unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1); err != nil {
		_ = s.close()
		return nil, fmt.Errorf("ask for strict checking of netlink requests: %w", err)
	}
	return s, nil
}

// checkExceptionDump goes by the kernel's version, for want of better: a probe
// would have to make an exception, and a kernel that dumps none does not say so.
func checkExceptionDump() error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return fmt.Errorf("ask for the kernel's version: %w", err)
	}
	release := unix.ByteSliceToString(name.Release[:])
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return fmt.Errorf("read the kernel's version %q: %w", release, err)
	}
	if major < 5 || major == 5 && minor < 3 {
		return fmt.Errorf("%w, this is %s", ErrNoExceptionDump, release)
	}
	return nil
}

// dumpExceptions asks for the exceptions of the socket's namespace. They come
// sorted by destination and device.
func dumpExceptions(routes *netlinkSocket, node string) ([]record.Exception, error) {
	request := make([]byte, unix.SizeofNlMsghdr+unix.SizeofRtMsg)
	binary.NativeEndian.PutUint32(request[0:], uint32(len(request)))
	binary.NativeEndian.PutUint16(request[4:], unix.RTM_GETROUTE)
	binary.NativeEndian.PutUint16(request[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	request[unix.SizeofNlMsghdr] = unix.AF_INET
	binary.NativeEndian.PutUint32(request[unix.SizeofNlMsghdr+8:], unix.RTM_F_CLONED)
	var found []record.Exception
	err := routes.ask(request, func(m syscall.NetlinkMessage) error {
		r, err := parseCachedRoute(m.Data)
		if err != nil {
			return err
		}
		if !r.cloned || r.mtu == 0 { // mtu 0: learned from a redirect
			return nil
		}
		x := record.Exception{
			Node: node, Destination: r.destination, Gateway: r.gateway,
			Device: interfaceName(routes.fd, r.device),
			MTU:    r.mtu, ExpiresS: r.expires / userHz,
		}
		x.Text = r.text(x.Device)
		found = append(found, x)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("dump the route exceptions: %w", err)
	}
	slices.SortFunc(found, func(a, b record.Exception) int {
		return cmp.Or(a.Destination.Compare(b.Destination), cmp.Compare(a.Device, b.Device))
	})
	// A next hop that several routes share is dumped with each of them.
	return slices.Compact(found), nil
}

// cachedRoute is one cloned route of a dump.
type cachedRoute struct {
	cloned                       bool
	destination, gateway, source netip.Addr
	device                       int // interface index
	mtu                          int // bytes, 0 when not learned
	locked                       bool
	expires                      int // 1/userHz s
}

// parseCachedRoute reads the payload of an RTM_NEWROUTE: struct rtmsg and
// attributes.
func parseCachedRoute(payload []byte) (cachedRoute, error) {
	var r cachedRoute
	if len(payload) < unix.SizeofRtMsg {
		return r, fmt.Errorf("read a route of %d bytes: %w", len(payload), unix.EBADMSG)
	}
	r.cloned = binary.NativeEndian.Uint32(payload[8:])&unix.RTM_F_CLONED != 0
	attributes(payload[unix.SizeofRtMsg:], func(kind uint16, value []byte) {
		switch kind {
		case unix.RTA_DST:
			r.destination, _ = netip.AddrFromSlice(value)
		case unix.RTA_GATEWAY:
			r.gateway, _ = netip.AddrFromSlice(value)
		case unix.RTA_PREFSRC:
			r.source, _ = netip.AddrFromSlice(value)
		case unix.RTA_OIF:
			r.device = int(number(value))
		case unix.RTA_CACHEINFO: // struct rta_cacheinfo: clntref, lastuse, expires, …
			if len(value) >= 12 {
				r.expires = max(0, int(int32(number(value[8:]))))
			}
		case unix.RTA_METRICS:
			attributes(value, func(metric uint16, value []byte) {
				switch metric {
				case unix.RTAX_MTU:
					r.mtu = int(number(value))
				case unix.RTAX_LOCK:
					r.locked = number(value)&(1<<unix.RTAX_MTU) != 0
				}
			})
		}
	})
	return r, nil
}

// number is the u32 at the start of an attribute's value, 0 when it is shorter.
func number(value []byte) uint32 {
	if len(value) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(value)
}

// text says r in the words of ip route get. A dump tells no source address
// unless the route itself prefers one.
func (r cachedRoute) text(device string) string {
	var b strings.Builder
	b.WriteString(r.destination.String())
	if r.gateway.IsValid() {
		b.WriteString(" via " + r.gateway.String())
	}
	b.WriteString(" dev " + device)
	if r.source.IsValid() {
		b.WriteString(" src " + r.source.String())
	}
	b.WriteString(" cache expires " + strconv.Itoa(r.expires/userHz) + "sec mtu ")
	if r.locked {
		b.WriteString("lock ")
	}
	b.WriteString(strconv.Itoa(r.mtu))
	return b.String()
}

// interfaceName is the name of an interface in the namespace of the socket fd;
// one that is gone is named by its number, as ip does.
func interfaceName(fd, index int) string {
	request, err := unix.NewIfreq("")
	if err == nil {
		request.SetUint32(uint32(index)) // ifr_ifindex
		err = unix.IoctlIfreq(fd, unix.SIOCGIFNAME, request)
	}
	if err != nil {
		return "if" + strconv.Itoa(index)
	}
	return request.Name()
}
