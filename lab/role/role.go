// Package role lets one static binary play several parts: the command on the
// host, process 1 of a guest, that guest's modprobe, the supervisor of a guest
// process, a sidecar, a server.
//
// A part is chosen by the base name of argv[0], "pmtulab:NAME", so that it
// shows in ps, survives exec from the kernel (rdinit=, kernel.modprobe) and
// needs no flag that a user could type by accident. Any program that links the
// laboratory calls Play first thing in main, a test binary in TestMain; then
// re-execution of /proc/self/exe works there as well.
package role

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
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

// Play runs the role that argv[0] names and exits with its code. It returns
// when argv[0] names none of them: then this process is the ordinary program.
func Play(roles ...Role) {
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
// caller starts it and waits for it; ctx kills it.
func Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Args[0] = Prefix + name
	return cmd
}
