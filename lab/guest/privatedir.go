// The private directory of a guest. User-Mode Linux keeps its memory in an
// unlinked file there, maps it executable, and needs a file system with room.

package guest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A DirError tells that no directory is fit for a guest's memory.
type DirError struct {
	// NeedMiB is the room that was asked for.
	NeedMiB int `json:"need_mib"`
	// Unfit says of each directory that was tried why it does not serve.
	Unfit []UnfitDir `json:"unfit"`
}

// UnfitDir is a directory that cannot hold a guest's memory, and why.
type UnfitDir struct {
	Dir    string `json:"dir"`
	Reason string `json:"reason"`
}

func (e *DirError) Error() string {
	var reasons []string
	for _, u := range e.Unfit {
		reasons = append(reasons, u.Dir+": "+u.Reason)
	}
	return fmt.Sprintf("find a directory for %d MiB of guest memory: %s; set TMPDIR to a directory that is writable, allows exec and has the room, or ask for less memory",
		e.NeedMiB, strings.Join(reasons, "; "))
}

// dirCandidates are where a guest's memory may live, the best first.
func dirCandidates() []string {
	var dirs []string
	if dir := os.Getenv("TMPDIR"); dir != "" {
		dirs = append(dirs, dir)
	}
	return append(dirs, "/dev/shm", fmt.Sprintf("/run/user/%d", os.Getuid()), "/tmp")
}

// choosePrivateDir returns the first fit directory of candidates, or a
// *DirError.
func choosePrivateDir(candidates []string, needMiB int) (string, error) {
	unfit := DirError{NeedMiB: needMiB}
	for _, dir := range candidates {
		if err := fitDir(dir, needMiB); err != nil {
			unfit.Unfit = append(unfit.Unfit, UnfitDir{Dir: dir, Reason: err.Error()})
			continue
		}
		return dir, nil
	}
	return "", &unfit
}

// fitDir tries what User-Mode Linux will do: make a file and map it
// executable. The file has no name, so it cannot be left behind.
func fitDir(dir string, needMiB int) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return errors.New("does not exist")
		}
		return fmt.Errorf("cannot be examined: %w", err)
	}
	if fs.Flags&unix.ST_RDONLY != 0 {
		return errors.New("mounted read-only")
	}
	if fs.Flags&unix.ST_NOEXEC != 0 {
		return errors.New("mounted noexec")
	}
	if free := fs.Bavail * uint64(fs.Bsize) >> 20; free < uint64(needMiB) {
		return fmt.Errorf("full: %d MiB free, %d needed", free, needMiB)
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return errors.New("not writable")
	}
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o700)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) {
		return nil // no nameless files there; the flags of the mount must do
	}
	if err != nil {
		return fmt.Errorf("not writable: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, 4096); err != nil {
		return fmt.Errorf("not writable: %w", err)
	}
	page, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("does not allow exec: %w", err)
	}
	return unix.Munmap(page) //nolint:wrapcheck // cannot fail for a page that was mapped
}

// privateDirName is a name that no other guest has, whatever the process
// namespaces that share the parent directory.
func privateDirName(parent string) string {
	return filepath.Join(parent, fmt.Sprintf("pmtulab-guest-%016x", rand.Uint64()))
}
