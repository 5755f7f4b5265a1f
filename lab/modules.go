//go:build linux

// This file reads what the machine says about kernel modules: the kernel loads
// many of them by itself at first use, and looking around must not do that.

package lab

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// kernelModules is what is known about the modules of the running kernel.
type kernelModules struct {
	// fixed tells that the kernel can load none.
	fixed bool
	// loaded are the modules in the kernel now, by canonical name.
	loaded map[string]bool
	// onDisk are the modules that modprobe can find; nil when that cannot be
	// seen from here, as in a container.
	onDisk map[string]bool
}

// hostModules reads the state of this machine. Its parts are a few hundred
// kilobytes at most and change while modules are loaded, so nothing is kept.
func hostModules() kernelModules {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return kernelModules{}
	}
	return readModules(os.DirFS("/"), unix.ByteSliceToString(u.Release[:]))
}

// readModules reads the state of a machine with the root file system and the
// kernel release given.
func readModules(root fs.FS, release string) kernelModules {
	loaded, err := fs.ReadFile(root, "proc/modules")
	if err != nil {
		return kernelModules{fixed: true} // a kernel without modules
	}
	m := kernelModules{loaded: map[string]bool{}}
	for s := bufio.NewScanner(bytes.NewReader(loaded)); s.Scan(); {
		name, _, _ := strings.Cut(s.Text(), " ")
		m.loaded[name] = true
	}
	disabled, _ := fs.ReadFile(root, "proc/sys/kernel/modules_disabled")
	modprobe, err := fs.ReadFile(root, "proc/sys/kernel/modprobe")
	m.fixed = bytes.HasPrefix(disabled, []byte("1")) || err == nil && len(bytes.TrimSpace(modprobe)) == 0
	if dep, err := fs.ReadFile(root, path.Join("lib/modules", release, "modules.dep")); err == nil {
		m.onDisk = map[string]bool{}
		for line := range bytes.Lines(dep) { // kernel/drivers/net/veth.ko.xz: DEPENDENCIES
			file, _, _ := bytes.Cut(line, []byte(":"))
			name, _, _ := strings.Cut(path.Base(string(file)), ".")
			m.onDisk[strings.ReplaceAll(name, "-", "_")] = true
		}
	}
	return m
}

// firstLoaded is nil, or says which of modules the kernel would load at first
// use. A module that is built in is none of those loaded or on disk.
func (m kernelModules) firstLoaded(modules ...string) error {
	for _, name := range modules {
		switch {
		case m.fixed || m.loaded[name]:
		case m.onDisk == nil:
			return &UntriedError{fmt.Sprintf("the kernel might load its module %s for that", name)}
		case m.onDisk[name]:
			return &UntriedError{fmt.Sprintf("the kernel will load its module %s at first use", name)}
		}
	}
	return nil
}

// remedy is what to do about a module that is not loaded.
func (m kernelModules) remedy(module string) string {
	switch {
	case m.fixed:
		return fmt.Sprintf("run on a kernel with %s, or in a guest: this one can load no module", module)
	case m.onDisk == nil || m.onDisk[module]:
		return "modprobe " + module
	default:
		return fmt.Sprintf("run on a kernel with %s, or in a guest: this one has no such module", module)
	}
}
