package kernel

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Feature is a part of Linux that a kernel may be built without.
type Feature struct {
	// Module is its name when it is a module, Option that of its build
	// configuration.
	Module, Option string
}

// LabFeatures are the parts that no lab with a load balancer can be without.
func LabFeatures() []Feature {
	return []Feature{
		{"ip_vs", "CONFIG_IP_VS"}, {"ipip", "CONFIG_NET_IPIP"}, {"veth", "CONFIG_VETH"}, {"bridge", "CONFIG_BRIDGE"},
	}
}

// A LackError tells what a kernel lacks.
type LackError struct {
	Kernel Kernel
	// Lacks says it, one feature each: "ip_vs: CONFIG_IP_VS is not set".
	Lacks []string
}

func (e *LackError) Error() string {
	return fmt.Sprintf("kernel %s lacks %s; use a kernel that has it", e.Kernel.Release, strings.Join(e.Lacks, ", "))
}

// Check tells before any boot, from the configuration and the names of the
// module files, whether the kernel has the features. The error is a *LackError
// when it has not. A kernel whose configuration is not known passes.
func (k Kernel) Check(features ...Feature) error {
	if k.Config == "" {
		return nil
	}
	options, err := readConfig(k.Config)
	if err != nil {
		return err
	}
	var lacks []string
	var modules map[string]bool
	for _, f := range features {
		switch value := options[f.Option]; {
		case value == "y":
		case value != "m":
			lacks = append(lacks, fmt.Sprintf("%s: %s is not set", f.Module, f.Option))
		default:
			if modules == nil {
				if modules, err = moduleNames(k.Modules); err != nil {
					return err
				}
			}
			if !modules[f.Module] {
				lacks = append(lacks, fmt.Sprintf("%s: %s=m, but the module is not in %s", f.Module, f.Option, k.Modules))
			}
		}
	}
	if len(lacks) > 0 {
		return &LackError{Kernel: k, Lacks: lacks}
	}
	return nil
}

// readConfig reads a build configuration: OPTION=VALUE lines.
func readConfig(file string) (map[string]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read kernel configuration: %w", err)
	}
	defer f.Close()
	options := map[string]string{}
	s := bufio.NewScanner(f)
	for s.Scan() {
		if name, value, ok := strings.Cut(s.Text(), "="); ok {
			options[name] = value
		}
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("read kernel configuration %s: %w", file, err)
	}
	return options, nil
}

// moduleNames are the names of all modules below dir.
func moduleNames(dir string) (map[string]bool, error) {
	names := map[string]bool{}
	err := walkModules(dir, func(file string) error {
		name, _, _ := strings.Cut(filepath.Base(file), ".ko")
		names[strings.ReplaceAll(name, "-", "_")] = true
		return nil
	})
	return names, err
}

// walkModules gives each module file below dir to each, which may end the walk
// with fs.SkipAll.
func walkModules(dir string, each func(file string) error) error {
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type().IsRegular() && isModule(file) {
			return each(file)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list modules: %w", err)
	}
	return nil
}

// isModule tells whether a file name is that of a module.
func isModule(file string) bool {
	return slices.ContainsFunc([]string{".ko", ".ko.xz", ".ko.zst", ".ko.gz"},
		func(suffix string) bool { return strings.HasSuffix(path.Base(file), suffix) })
}
