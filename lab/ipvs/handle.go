//go:build linux

package ipvs

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ErrNotSupported is in the chain of the error of Open when the kernel has no
// IP Virtual Server: not built, or the module ip_vs not loaded.
var ErrNotSupported = errors.New("the kernel has no IP Virtual Server (genetlink family IPVS)")

// ErrNoScheduler is in the chain of the error of Add and Update when the kernel
// has no such scheduler and could not load its module ip_vs_NAME.
var ErrNoScheduler = errors.New("the kernel has no such scheduler")

// Namespace runs a function inside one network namespace, on a thread that
// stays there while the function runs; (*lab.Node).Do is one.
type Namespace func(func() error) error

// deadline bounds each answer of the kernel. They take microseconds; deleting a
// service waits for an RCU grace period, hundreds of milliseconds at worst.
const deadline = 10 * time.Second

// Handle is access to the IP Virtual Server of one network namespace. Its
// methods may be called from several goroutines and from any namespace.
type Handle struct {
	in     Namespace
	socket *nl.SocketHandle
	family uint16
	totals *os.File
}

// Open opens the IP Virtual Server of a namespace. The caller closes the Handle.
// The error wraps ErrNotSupported when the kernel has none; nothing is loaded.
func Open(in Namespace) (*Handle, error) {
	h := &Handle{in: in}
	err := in(func() error {
		socket, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_GENERIC)
		if err != nil {
			return fmt.Errorf("open generic netlink socket: %w", err)
		}
		h.socket = &nl.SocketHandle{Socket: socket}
		limit := unix.NsecToTimeval(deadline.Nanoseconds())
		if err := errors.Join(socket.SetSendTimeout(&limit), socket.SetReceiveTimeout(&limit)); err != nil {
			return fmt.Errorf("set deadline of generic netlink socket: %w", err)
		}
		if h.family, err = findFamily(h.socket, "IPVS"); err != nil {
			return err
		}
		// The open file stays bound to the namespace of the thread that
		// opened it (seq_open_net).
		if h.totals, err = os.Open("/proc/thread-self/net/ip_vs_stats_percpu"); err != nil {
			return fmt.Errorf("open exact totals: %w", err)
		}
		return nil
	})
	if err != nil {
		_ = h.Close() // the first error counts
		return nil, fmt.Errorf("open IP Virtual Server: %w", err)
	}
	return h, nil
}

// Close releases the handle; the services stay.
func (h *Handle) Close() error {
	if h.socket != nil {
		h.socket.Close()
		h.socket = nil
	}
	if h.totals == nil {
		return nil
	}
	err := h.totals.Close()
	h.totals = nil
	return err //nolint:wrapcheck // names the file
}

// Add adds a service with its destinations. When a destination is refused the
// service is removed again.
func (h *Handle) Add(s Service) error {
	attr, err := serviceAttr(s)
	if err != nil {
		return fmt.Errorf("add virtual service %v: %w", s, err)
	}
	if _, err := h.request(cmdNewService, 0, attr); err != nil {
		return fmt.Errorf("add virtual service %v: %w", s, explainScheduler(s, err))
	}
	for _, d := range s.Destinations {
		if err := h.AddDestination(s, d); err != nil {
			return errors.Join(err, h.Delete(s))
		}
	}
	return nil
}

// Update changes scheduler and persistence of a service; its destinations and
// connections stay as they are.
func (h *Handle) Update(s Service) error {
	attr, err := serviceAttr(s)
	if err == nil {
		_, err = h.request(cmdSetService, 0, attr)
	}
	if err != nil {
		return fmt.Errorf("update virtual service %v: %w", s, explainScheduler(s, err))
	}
	return nil
}

// Delete removes a service and its destinations.
func (h *Handle) Delete(s Service) error {
	attr, err := serviceAttr(s)
	if err == nil {
		_, err = h.request(cmdDelService, 0, attr)
	}
	if err != nil {
		return fmt.Errorf("delete virtual service %v: %w", s, err)
	}
	return nil
}

// AddDestination adds a real server to a service. EINVAL means that its address
// is not unicast; in a namespace where lo was never up, none is
// (inet_addr_type).
func (h *Handle) AddDestination(s Service, d Destination) error {
	return h.destination("add", cmdNewDest, s, d)
}

// UpdateDestination changes weight and forwarding method of a real server. The
// weight counts from the next new connection on.
func (h *Handle) UpdateDestination(s Service, d Destination) error {
	return h.destination("update", cmdSetDest, s, d)
}

// DeleteDestination takes a real server out of a service. Its established
// connections are cut at their next packet (unless net.ipv4.vs.expire_nodest_conn
// says otherwise).
func (h *Handle) DeleteDestination(s Service, d Destination) error {
	return h.destination("delete", cmdDelDest, s, d)
}

func (h *Handle) destination(verb string, cmd uint8, s Service, d Destination) error {
	service, err1 := serviceAttr(s)
	dest, err2 := destinationAttr(d)
	err := errors.Join(err1, err2)
	if err == nil {
		_, err = h.request(cmd, 0, service, dest)
	}
	if err != nil {
		return fmt.Errorf("%s real server %v of virtual service %v: %w", verb, d, s, err)
	}
	return nil
}

// Services lists the IPv4 services of the namespace with their destinations, as
// the kernel has them now.
func (h *Handle) Services() ([]Service, error) {
	messages, err := h.request(cmdGetService, unix.NLM_F_DUMP)
	if err != nil {
		return nil, fmt.Errorf("list virtual services: %w", err)
	}
	services := make([]Service, 0, len(messages))
	for _, m := range messages {
		s, ok, err := parseService(m)
		if err != nil {
			return nil, fmt.Errorf("read virtual service: %w", err)
		}
		if !ok {
			continue
		}
		attr, err := serviceAttr(s)
		if err != nil {
			return nil, err
		}
		entries, err := h.request(cmdGetDest, unix.NLM_F_DUMP, attr)
		if err != nil {
			return nil, fmt.Errorf("list real servers of virtual service %v: %w", s, err)
		}
		for _, e := range entries {
			d, err := parseDestination(e)
			if err != nil {
				return nil, fmt.Errorf("read real server of virtual service %v: %w", s, err)
			}
			s.Destinations = append(s.Destinations, d)
		}
		services = append(services, s)
	}
	return services, nil
}

// explainScheduler says which of the two things that ENOENT can mean it is:
// ip_vs_add_service and ip_vs_edit_service answer so when the scheduler is
// missing, the latter also when the service is (ESRCH).
func explainScheduler(s Service, err error) error {
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%w: %q (kernel module ip_vs_%s): %w", ErrNoScheduler, s.Scheduler, s.Scheduler, err)
	}
	return err
}
