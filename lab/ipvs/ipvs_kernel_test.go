//go:build linux && kernel

package ipvs

import (
	"errors"
	"io/fs"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	moby "github.com/moby/ipvs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab/capability"
)

// fresh is a namespace for one test, with lo up: a thread that never leaves it
// and ends with the test.
func fresh(t *testing.T) Namespace {
	t.Helper()
	jobs := make(chan func())
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked
		ready <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
			if err != nil {
				return err
			}
			defer h.Close()
			return h.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: 1}})
		}()
		for job := range jobs {
			job()
		}
	}()
	err := <-ready
	if errors.Is(err, unix.EPERM) {
		capability.Missing(t, err, "netns")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(jobs) })
	return func(f func() error) error {
		done := make(chan error)
		jobs <- func() { done <- f() }
		return <-done
	}
}

func open(t *testing.T, in Namespace) *Handle {
	t.Helper()
	h, err := Open(in)
	if errors.Is(err, ErrNotSupported) {
		capability.Missing(t, err, "ipvs")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func web() Service {
	return Service{
		Protocol: TCP, Address: netip.MustParseAddr("10.0.0.2"), Port: 443, Scheduler: "wrr",
		Destinations: []Destination{
			{Address: netip.MustParseAddr("10.0.0.6"), Port: 443, Forwarding: Tunnel, Weight: 1},
			{Address: netip.MustParseAddr("10.0.0.7"), Port: 443, Forwarding: DirectRoute, Weight: 300},
			{Address: netip.MustParseAddr("10.0.0.8"), Port: 8443, Forwarding: Masquerade, Weight: 0},
		},
	}
}

// only returns the only service, its destinations sorted by address.
func only(t *testing.T, h *Handle) Service {
	t.Helper()
	list, err := h.Services()
	if err != nil || len(list) != 1 {
		t.Fatalf("services: %+v, %v", list, err)
	}
	slices.SortFunc(list[0].Destinations, func(a, b Destination) int { return a.Address.Compare(b.Address) })
	return list[0]
}

func equal(a, b Service) bool {
	destinations := slices.Equal(a.Destinations, b.Destinations)
	a.Destinations, b.Destinations = nil, nil
	return destinations && a.String() == b.String() && a.Scheduler == b.Scheduler && a.Persistence == b.Persistence
}

func TestServiceLives(t *testing.T) {
	in := fresh(t)
	h := open(t, in)
	want := web()
	if err := h.Add(want); err != nil {
		t.Fatal(err)
	}
	if got := only(t, h); !equal(got, want) {
		t.Errorf("service is %+v, want %+v", got, want)
	}
	sameThroughMoby(t, in, want)

	want.Scheduler, want.Persistence = "rr", 60*time.Second
	if err := h.Update(want); err != nil {
		t.Error(err)
	}
	want.Destinations[0].Weight = 0
	want.Destinations[2].Weight = 7
	for _, i := range []int{0, 2} {
		if err := h.UpdateDestination(want, want.Destinations[i]); err != nil {
			t.Error(err)
		}
	}
	gone := want.Destinations[1]
	want.Destinations = slices.Delete(want.Destinations, 1, 2)
	if err := h.DeleteDestination(want, gone); err != nil {
		t.Error(err)
	}
	if got := only(t, h); !equal(got, want) {
		t.Errorf("service is %+v, want %+v", got, want)
	}
	sameThroughMoby(t, in, want)

	want.Persistence = 0
	if err := h.Update(want); err != nil {
		t.Error(err)
	}
	if got := only(t, h); got.Persistence != 0 {
		t.Errorf("persistence is %v after switching it off", got.Persistence)
	}
	if err := h.Delete(want); err != nil {
		t.Error(err)
	}
	if list, err := h.Services(); err != nil || len(list) != 0 {
		t.Errorf("services after Delete: %+v, %v", list, err)
	}
}

// sameThroughMoby reads the service back with moby/ipvs.
func sameThroughMoby(t *testing.T, in Namespace, want Service) {
	t.Helper()
	err := in(func() error {
		m, err := moby.New("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		defer m.Close()
		list, err := m.GetServices()
		if err != nil || len(list) != 1 {
			t.Fatalf("moby/ipvs: services %+v, %v", list, err)
		}
		s := list[0]
		destinations, err := m.GetDestinations(s)
		if err != nil {
			return err
		}
		got := Service{Protocol: Protocol(s.Protocol), Port: s.Port, Scheduler: s.SchedName}
		got.Address, _ = netip.AddrFromSlice(s.Address)
		if s.Flags&flagPersistent != 0 {
			got.Persistence = time.Duration(s.Timeout) * time.Second
		}
		for _, d := range destinations {
			address, _ := netip.AddrFromSlice(d.Address)
			got.Destinations = append(got.Destinations, Destination{
				Address: address, Port: d.Port, Weight: d.Weight, Forwarding: Forwarding(d.ConnectionFlags & moby.ConnectionFlagFwdMask),
			})
		}
		slices.SortFunc(got.Destinations, func(a, b Destination) int { return a.Address.Compare(b.Address) })
		if !equal(got, want) {
			t.Errorf("moby/ipvs: service is %+v, want %+v", got, want)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestErrorsNameTheService(t *testing.T) {
	h := open(t, fresh(t))
	s := web()
	says := func(err error, is error, words ...string) {
		t.Helper()
		if !errors.Is(err, is) {
			t.Errorf("error is not %v: %v", is, err)
		}
		for _, w := range words {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("error does not say %q: %v", w, err)
			}
		}
	}
	says(h.Delete(s), unix.ESRCH, "delete virtual service TCP 10.0.0.2:443")
	says(h.Update(s), unix.ESRCH, "update virtual service TCP 10.0.0.2:443")
	says(h.AddDestination(s, s.Destinations[0]), unix.ESRCH, "add real server 10.0.0.6:443 of virtual service TCP 10.0.0.2:443")
	bad := s
	bad.Scheduler = "nosuch"
	says(h.Add(bad), ErrNoScheduler, `"nosuch"`, "ip_vs_nosuch", "TCP 10.0.0.2:443")
	if err := h.Add(s); err != nil {
		t.Fatal(err)
	}
	says(h.Add(s), unix.EEXIST, "add virtual service TCP 10.0.0.2:443")
	says(h.Update(bad), ErrNoScheduler, `"nosuch"`)
	says(h.AddDestination(s, s.Destinations[0]), unix.EEXIST, "real server 10.0.0.6:443")
	if err := h.Delete(s); err != nil {
		t.Fatal(err)
	}
	// A service is there with all its real servers or not at all.
	twice := s
	twice.Destinations = append(slices.Clone(s.Destinations), s.Destinations[0])
	says(h.Add(twice), unix.EEXIST, "real server 10.0.0.6:443")
	if list, err := h.Services(); err != nil || len(list) != 0 {
		t.Errorf("services after a failed Add: %+v, %v", list, err)
	}
}

func TestNamespacesAreApart(t *testing.T) {
	a, b := open(t, fresh(t)), open(t, fresh(t))
	if err := a.Add(web()); err != nil {
		t.Fatal(err)
	}
	if list, err := b.Services(); err != nil || len(list) != 0 {
		t.Errorf("services of another namespace: %+v, %v", list, err)
	}
	if err := a.SetSysctl("pmtu_disc", "0"); err != nil {
		t.Error(err)
	}
	for h, want := range map[*Handle]string{a: "0", b: "1"} {
		if got, err := h.Sysctl("pmtu_disc"); got != want || err != nil {
			t.Errorf("pmtu_disc is %q, want %q (%v)", got, want, err)
		}
	}
	if _, err := a.Sysctl("no_such"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "net.ipv4.vs.no_such") {
		t.Error(err)
	}
}

func TestClosedHandle(t *testing.T) {
	h := open(t, fresh(t))
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.Add(web()); err == nil {
		t.Error("Add through a closed handle")
	}
	if _, err := h.Totals(); err == nil {
		t.Error("Totals through a closed handle")
	}
}
