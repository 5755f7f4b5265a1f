//go:build linux && qemu

package main

import (
	"os"
	"path/filepath"
	"testing"
)

// kernelEnv names the directory of a kernel for QEMU: see lab/guest.
const kernelEnv = "PMTULAB_TEST_KERNEL"

// TestVMOnQEMU runs the scripts of vm that are the same on every machine.
func TestVMOnQEMU(t *testing.T) {
	dir := os.Getenv(kernelEnv)
	find := func(pattern string) string {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(found) != 1 {
			t.Fatalf("find one %s in %q, the directory that %s names: %q, %v", pattern, dir, kernelEnv, found, err)
		}
		return found[0]
	}
	ref := find("boot/vmlinuz-*") + ",elf=" + find("vmlinux") + ",modules=" + find("lib/modules/*")
	scripts(t, "vm", goEnv("KERNEL="+ref)...)
}
