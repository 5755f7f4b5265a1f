//go:build linux

// The sidecar's own process: descriptors, limits, user, signals.

package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/pmtulab/pmtulab/lab/role"
	"golang.org/x/sys/unix"
)

const (
	roleName = "sidecar"
	// Descriptors of the child beside standard input, the lifeline.
	messageFD = 3
	counterFD = 4
	// wantedFiles is the RLIMIT_NOFILE asked for: two for each connection.
	wantedFiles = 1 << 18
)

// Role is the part that the sidecar's process plays. Programs that call Start
// hand it to role.Play first thing in main or TestMain.
func Role() role.Role {
	return role.Role{Name: roleName, Main: childMain}
}

// childMain is the main function of the sidecar's process.
func childMain(args []string) int {
	// An interrupt from the terminal goes to the whole process group; when
	// the sidecar ends is for the parent to say.
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	// End of file on standard input: the parent has gone, with or without a
	// chance to say so.
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()

	out := newMessenger(os.NewFile(messageFD, "messages"))
	p, err := prepare(ctx, args)
	if err != nil {
		out.send(message{Failed: &failure{PortTaken: errors.Is(err, unix.EADDRINUSE), Text: err.Error()}})
		return 1
	}
	p.emit = out.send
	out.send(message{Listening: true})
	if err := p.serve(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// prepare makes the proxy, then gives up root. The listener comes first, so
// that a port below 1024 can be had; the limit on open files as well, since
// its hard limit can be raised by root only.
func prepare(ctx context.Context, args []string) (*proxy, error) {
	var cfg Config
	if len(args) != 1 {
		return nil, fmt.Errorf("the sidecar role takes one argument, its configuration; got %d", len(args))
	}
	if err := json.Unmarshal([]byte(args[0]), &cfg); err != nil {
		return nil, fmt.Errorf("read the sidecar's configuration: %w", err)
	}
	counters, _, err := mapCounters(counterFD, unix.PROT_WRITE)
	if err != nil {
		return nil, err
	}
	p, err := listen(ctx, "0.0.0.0", cfg)
	if err != nil {
		return nil, err
	}
	p.counters = counters
	raiseFileLimit()
	if err := becomeUser(cfg.UID); err != nil {
		return nil, err
	}
	return p, nil
}

// raiseFileLimit sets RLIMIT_NOFILE to wantedFiles, or as near as is allowed.
func raiseFileLimit() {
	var have unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &have) != nil || have.Cur >= wantedFiles {
		return
	}
	want := unix.Rlimit{Cur: wantedFiles, Max: max(wantedFiles, have.Max)}
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &want) != nil {
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: have.Max, Max: have.Max})
	}
}

// becomeUser gives up every group and becomes uid and gid for good. The
// redirect knows the proxy's own connections by it.
func becomeUser(uid int) error {
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("give up the supplementary groups: %w (run as root)", err)
	}
	if err := syscall.Setresgid(uid, uid, uid); err != nil {
		return fmt.Errorf("become group %d: %w (run as root, in a user namespace that maps it)", uid, err)
	}
	if err := syscall.Setresuid(uid, uid, uid); err != nil {
		return fmt.Errorf("become user %d: %w (run as root, in a user namespace that maps it)", uid, err)
	}
	return nil
}
