package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pmtulab/pmtulab/lab/guest"
)

// parseKernel finds the kernel that --kernel names: "uml", or
// IMAGE[,elf=FILE][,modules=DIR] for QEMU.
func parseKernel(ref string) (guest.Kernel, error) {
	if ref == "uml" {
		return guest.FindUML() //nolint:wrapcheck // names what is missing
	}
	image, options, _ := strings.Cut(ref, ",")
	k := guest.Kernel{Machine: guest.QEMU, Image: image}
	for option := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(option, "=")
		switch key {
		case "":
		case "elf":
			k.ELF = value
		case "modules":
			k.Modules = value
		default:
			return k, fmt.Errorf("--kernel %s: no option is called %q: there are elf=FILE and modules=DIR", ref, key)
		}
	}
	// The guest's process has another working directory.
	for _, path := range []*string{&k.Image, &k.ELF, &k.Modules} {
		if *path == "" {
			continue
		}
		abs, err := filepath.Abs(*path)
		if err == nil {
			_, err = os.Stat(abs)
		}
		if err != nil {
			return k, fmt.Errorf("--kernel %s: %w", ref, err)
		}
		*path = abs
	}
	return k, nil
}
