//go:build linux

// This file makes network namespaces and runs code inside them. Nothing else in
// the package changes the namespace of a thread, except spawn.go.

package lab

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// namespace is a network namespace held by file descriptor.
type namespace struct {
	// fd is the namespace, home that of this process, which is not owned.
	fd, home int
}

// openHome returns a descriptor of the namespace in which goroutines of this
// process run that are not locked to a thread.
func openHome() (int, error) {
	type result struct {
		fd  int
		err error
	}
	c := make(chan result)
	// A fresh goroutine, since the caller's may be locked to a thread that is
	// in another namespace.
	go func() {
		fd, err := openCurrent()
		c <- result{fd, err}
	}()
	r := <-c
	return r.fd, r.err
}

// openCurrent returns a descriptor of the calling thread's namespace.
func openCurrent() (int, error) {
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open /proc/thread-self/ns/net: %w (is /proc mounted?)", err)
	}
	return fd, nil
}

// create makes an empty network namespace and runs f in it, in one visit. After
// an error of f the namespace is there, for the caller to close.
func (ns *namespace) create(f func() error) error {
	var failed error
	err := onThread(ns.home, func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err //nolint:wrapcheck // wrapped below
		}
		if ns.fd, err = openCurrent(); err != nil {
			return err
		}
		failed = f()
		return nil
	})
	switch {
	case err == nil:
		return failed
	case errors.Is(err, unix.EPERM): // the way back fails as well
		err = &MissingError{
			Name:       "netns",
			Capability: "the right to create network namespaces",
			Remedy:     "run as root (CAP_SYS_ADMIN), or run in a guest",
			Err:        unix.EPERM,
		}
	case errors.Is(err, unix.EINVAL):
		err = &MissingError{
			Name:       "netns",
			Capability: "network namespaces",
			Remedy:     "run on a kernel with CONFIG_NET_NS",
			Err:        err,
		}
	}
	return fmt.Errorf("create network namespace: %w", errors.Join(err, failed))
}

// do runs f in the namespace.
func (ns *namespace) do(f func() error) error {
	if ns.fd < 0 {
		return ErrClosed
	}
	if ns.fd == ns.home { // entering it would need a privilege
		return f()
	}
	return onThread(ns.home, func() error {
		if err := unix.Setns(ns.fd, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return f()
	})
}

func (ns *namespace) close() error {
	if ns.fd < 0 {
		return nil
	}
	fd := ns.fd
	ns.fd = -1
	if err := unix.Close(fd); err != nil {
		return fmt.Errorf("close network namespace: %w", err)
	}
	return nil
}

// onThread runs f on a goroutine of its own that is locked to its thread, moves
// the thread back to the namespace home, and returns f's error. If the way back
// fails, the goroutine ends locked, and the runtime ends the thread with it.
// Panics and runtime.Goexit of f continue in the caller.
func onThread(home int, f func() error) error {
	var (
		err      error
		returned bool
		panicked any
		stack    []byte
		done     = make(chan struct{})
	)
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer func() {
			if !returned {
				if panicked = recover(); panicked != nil {
					stack = debug.Stack()
				}
			}
			if e := unix.Setns(home, unix.CLONE_NEWNET); e != nil {
				err = errors.Join(err, fmt.Errorf("return from network namespace: %w (its thread was ended)", e))
				return
			}
			runtime.UnlockOSThread()
		}()
		err = f()
		returned = true
	}()
	<-done
	switch {
	case returned:
		return err
	case panicked == nil:
		runtime.Goexit()
	}
	if e, ok := panicked.(runtime.Error); ok {
		// A bug: keep where it happened. Other values are passed as they are,
		// test frameworks recognise theirs.
		panic(fmt.Errorf("%w\n\nin a network namespace:\n%s", e, stack))
	}
	panic(panicked)
}
