//go:build kernel

package kernel

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A full file system is an error with the remedy, and leaves nothing.
func TestNoSpace(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8M"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	cache := Cache{Dir: filepath.Join(dir, "cache")}
	_, err := cache.Resolve(t.Context(), bigPackage(t, 16).write(t, t.TempDir()))
	if !errors.Is(err, unix.ENOSPC) || errors.Is(err, ErrInput) || !strings.Contains(err.Error(), "pmtulab kernels prune") {
		t.Errorf("error is %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(cache.Dir, "kernels")); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
	// With room, it works.
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=32M"); err != nil {
		t.Fatal(err)
	}
	if _, err := cache.Resolve(t.Context(), bigPackage(t, 16).write(t, t.TempDir())); err != nil {
		t.Error(err)
	}
}
