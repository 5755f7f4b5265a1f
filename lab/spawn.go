//go:build linux

// This file starts child processes inside nodes, from one thread that lives as
// long as the lab.

package lab

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrClosed is in the chain of errors of nodes whose lab is closed.
var ErrClosed = errors.New("the lab is closed")

// spawner is the thread that starts children. A child with a parent-death signal
// receives it when the *thread* that started it ends (prctl(2)), so children must
// not be started from threads that come and go.
type spawner struct {
	jobs chan func()
	stop chan struct{}
	done chan struct{}
}

func newSpawner() *spawner {
	s := &spawner{jobs: make(chan func()), stop: make(chan struct{}), done: make(chan struct{})}
	go s.serve()
	return s
}

// serve runs jobs on one thread, which ends with it. The thread is never
// unlocked, so it is not used again in whatever namespace it was left.
func (s *spawner) serve() {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The first thread of the process cannot end (runtime.mexit). While
		// it is locked here, another goroutine gets another thread.
		started := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(started)
			s.loop()
		}()
		<-started
		runtime.UnlockOSThread()
		return
	}
	s.loop()
}

func (s *spawner) loop() {
	defer close(s.done)
	for {
		select {
		case job := <-s.jobs:
			job()
		case <-s.stop:
			return
		}
	}
}

// start starts a command in a namespace.
func (s *spawner) start(ns *namespace, cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	if cmd.SysProcAttr.Pdeathsig == 0 {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	result := make(chan error, 1)
	job := func() {
		if err := unix.Setns(ns.fd, unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("enter network namespace: %w", err)
			return
		}
		// The thread stays where it is: it does nothing but start children,
		// and each start enters its namespace first.
		result <- cmd.Start()
	}
	select {
	case s.jobs <- job:
		return <-result
	case <-s.stop:
		return ErrClosed
	}
}

// close ends the thread. Children that still run receive their parent-death
// signal.
func (s *spawner) close() {
	close(s.stop)
	<-s.done
}
