//go:build linux && qemu

package main

import (
	"os"
	"testing"
)

// TestQEMU runs the scripts that boot a kernel of the archive in QEMU, with the
// user's own cache of kernels.
func TestQEMU(t *testing.T) {
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	scripts(t, "qemu", "XDG_CACHE_HOME="+cache)
	t.Run("vm", func(t *testing.T) { scripts(t, "vm", goEnv("XDG_CACHE_HOME="+cache, "KERNEL=6.1")...) })
}
