// Package role lets one static binary play several parts: the command on the
// host, process 1 of a guest, that guest's modprobe, the supervisor of a guest
// process, a sidecar, a server.
//
// A part is chosen by the base name of argv[0], "pmtulab:NAME", so that it
// shows in ps, survives exec from the kernel (rdinit=, kernel.modprobe) and
// needs no flag that a user could type by accident. Any program that links the
// laboratory calls Play first thing in main, a test binary in TestMain; then
// re-execution of /proc/self/exe works there as well. A program that forgot to
// is not executed again: it would do for a second time what it does.
package role

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Prefix starts the argv[0] of every process that plays a role.
const Prefix = "pmtulab:"

// Role is one part that the binary can play.
type Role struct {
	// Name follows Prefix in argv[0]: lower-case letters and dashes.
	Name string
	// Main receives os.Args[1:] and returns the exit code of the process.
	Main func(args []string) int
}

// ErrNotOffered is the error of starting a Command whose role this program has
// not given to Play.
var ErrNotOffered = errors.New("this program does not offer that role" +
	" (call lab.Main first thing in main, or in TestMain of a test binary; roles that are not the lab's own are its arguments)")

// offered are the names of all roles given to Play. They are a fact about the
// program: written first thing in main, and only read from then on.
var offered []string

// Play runs the role that argv[0] names and exits with its code. It returns
// when argv[0] names none of them: then this process is the ordinary program.
func Play(roles ...Role) {
	for _, r := range roles {
		offered = append(offered, r.Name)
	}
	name, ok := strings.CutPrefix(filepath.Base(os.Args[0]), Prefix)
	if !ok {
		return
	}
	for _, r := range roles {
		if r.Name == name {
			os.Exit(r.Main(os.Args[1:]))
		}
	}
}

// Command is a command that re-executes the running binary in a role. The
// caller starts it and waits for it; ctx kills it. Its Start returns
// ErrNotOffered when the role was not given to Play.
func Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Args[0] = Prefix + name
	if !slices.Contains(offered, name) {
		cmd.Err = fmt.Errorf("role %q: %w", name, ErrNotOffered)
	}
	return cmd
}
