// Modules inside a guest: init loads the wanted ones, and the role modprobe
// those that the kernel asks for later.

package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// modprobeControl holds the program that request_module() starts.
const modprobeControl = "/proc/sys/kernel/modprobe"

// loadModules loads what the job wants, in order, and then takes modprobe from
// the kernel, or gives it ours.
func loadModules(order bootOrder) error {
	for _, file := range order.Modules {
		if err := loadModule(file); err != nil {
			return err
		}
	}
	program := "\n"
	if order.KeepModprobe {
		program = modprobePath
	}
	err := os.WriteFile(modprobeControl, []byte(program), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) { // a kernel without modules
		return fmt.Errorf("set the kernel's modprobe: %w", err)
	}
	return nil
}

// loadModule loads one decompressed module; one that is loaded already is fine.
func loadModule(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("load module: %w", err)
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load module %s: %w", moduleName(file), err)
	}
	return nil
}

// modprobeMain serves "modprobe -q -- NAME", the kernel's only way to call it.
func modprobeMain(args []string) int {
	names := slices.DeleteFunc(slices.Clone(args), func(a string) bool { return strings.HasPrefix(a, "-") })
	b, err := os.ReadFile(aliasesPath)
	if err != nil {
		return 1
	}
	var table []packedModule
	if err := json.Unmarshal(b, &table); err != nil {
		fmt.Fprintln(os.Stderr, "modprobe:", err)
		return 1
	}
	for _, name := range names {
		order := probeOrder(table, name)
		if len(order) == 0 {
			return 1
		}
		for _, m := range order {
			if err := loadModule(filepath.Join(modulesDir, m+".ko")); err != nil {
				fmt.Fprintln(os.Stderr, "modprobe:", err)
				return 1
			}
		}
	}
	return 0
}

// probeOrder lists the modules that a name or alias stands for, each after
// what it needs; none when the table has no such name.
func probeOrder(table []packedModule, name string) []string {
	var order []string
	var add func(m packedModule)
	add = func(m packedModule) {
		if slices.Contains(order, m.Name) {
			return
		}
		for _, need := range m.Needs {
			if i := slices.IndexFunc(table, func(t packedModule) bool { return t.Name == need }); i >= 0 && need != m.Name {
				add(table[i])
			}
		}
		order = append(order, m.Name)
	}
	for _, m := range table {
		if m.Name == moduleName(name) || slices.ContainsFunc(m.Aliases, func(a string) bool { return aliasMatch(a, name) }) {
			add(m)
		}
	}
	return order
}
