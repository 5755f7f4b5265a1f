// Shared libraries of a host program, found as the dynamic loader would
// (ld.so(8)): DT_RPATH or DT_RUNPATH, the directories of /etc/ld.so.conf, then
// the standard ones. Nothing is executed, unlike ldd(1).

package guest

import (
	"bufio"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A LibraryError tells that a program needs a shared library that the host
// has not.
type LibraryError struct {
	// Library is the DT_NEEDED entry, Program the ELF file that has it.
	Library, Program string
	// Searched are the directories that were looked at.
	Searched []string
}

func (e *LibraryError) Error() string {
	return fmt.Sprintf("find library %s of %s: not in %s; install it, or link the program statically",
		e.Library, e.Program, strings.Join(e.Searched, ", "))
}

// libraries finds shared libraries below a root directory.
type libraries struct {
	root  string
	dirs  []string // of ld.so.conf, then the standard ones
	needs map[string]elfNeeds
}

func newLibraries(root string) *libraries {
	l := &libraries{root: root, needs: map[string]elfNeeds{}}
	l.conf("/etc/ld.so.conf", 0)
	for _, dir := range []string{
		"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib",
	} {
		if !slices.Contains(l.dirs, dir) {
			l.dirs = append(l.dirs, dir)
		}
	}
	return l
}

// conf reads a file in the form of /etc/ld.so.conf; includes nest at most 8
// deep. A file that cannot be read counts as empty, as for ldconfig.
func (l *libraries) conf(file string, depth int) {
	f, err := os.Open(filepath.Join(l.root, file))
	if err != nil || depth > 8 {
		return
	}
	defer f.Close()
	dirs, includes := parseLdConf(f)
	for _, dir := range dirs {
		if !slices.Contains(l.dirs, dir) {
			l.dirs = append(l.dirs, dir)
		}
	}
	for _, pattern := range includes {
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(filepath.Dir(file), pattern)
		}
		files, _ := filepath.Glob(filepath.Join(l.root, pattern))
		for _, include := range files {
			rel, err := filepath.Rel(l.root, include)
			if err == nil {
				l.conf("/"+rel, depth+1)
			}
		}
	}
}

// parseLdConf returns the directories and the include patterns of one file.
func parseLdConf(r io.Reader) (dirs, includes []string) {
	s := bufio.NewScanner(r)
	for s.Scan() {
		line, _, _ := strings.Cut(s.Text(), "#")
		words := strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t\r:,", r) })
		switch {
		case len(words) == 0, words[0] == "hwcap":
		case words[0] == "include":
			includes = append(includes, words[1:]...)
		default:
			for _, dir := range words {
				if filepath.IsAbs(dir) {
					dirs = append(dirs, filepath.Clean(dir))
				}
			}
		}
	}
	return dirs, includes
}

// elfNeeds is what one ELF file asks of the loader.
type elfNeeds struct {
	class   elf.Class
	machine elf.Machine
	interp  string
	needed  []string
	paths   []string // DT_RUNPATH, or DT_RPATH when there is none; with $ORIGIN
}

// read reads an ELF file below the root, once.
func (l *libraries) read(file string) (elfNeeds, error) {
	if n, ok := l.needs[file]; ok {
		return n, nil
	}
	n, err := readNeeds(filepath.Join(l.root, file))
	if err == nil {
		l.needs[file] = n
	}
	return n, err
}

// readNeeds reads an ELF file. A script or another kind of file has no needs.
func readNeeds(file string) (elfNeeds, error) {
	var n elfNeeds
	f, err := elf.Open(file)
	if err != nil {
		var format *elf.FormatError
		if errors.As(err, &format) || errors.Is(err, io.EOF) {
			return n, nil
		}
		return n, fmt.Errorf("read %s: %w", file, err)
	}
	defer f.Close()
	n.class, n.machine = f.Class, f.Machine
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP && p.Filesz < 4096 {
			b := make([]byte, p.Filesz)
			if _, err := p.ReadAt(b, 0); err != nil {
				return n, fmt.Errorf("read the interpreter of %s: %w", file, err)
			}
			n.interp = strings.TrimRight(string(b), "\x00")
		}
	}
	if n.needed, err = f.DynString(elf.DT_NEEDED); err != nil {
		return n, fmt.Errorf("read the libraries of %s: %w", file, err)
	}
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		values, err := f.DynString(tag)
		if err != nil {
			return n, fmt.Errorf("read the library path of %s: %w", file, err)
		}
		if len(values) > 0 {
			n.paths = filepath.SplitList(values[0])
			break
		}
	}
	return n, nil
}

// closure lists the interpreter and all libraries of a program, each once and
// under the path at which the loader will look for it.
func (l *libraries) closure(program string) ([]string, error) {
	var files []string
	queue := []string{program}
	for len(queue) > 0 {
		file := queue[0]
		queue = queue[1:]
		needs, err := l.read(file)
		if err != nil {
			return nil, err
		}
		add := func(lib string) {
			if !slices.Contains(files, lib) {
				files = append(files, lib)
				queue = append(queue, lib)
			}
		}
		if needs.interp != "" {
			if _, err := os.Stat(filepath.Join(l.root, needs.interp)); err != nil {
				return nil, fmt.Errorf("find the interpreter of %s: %w", file, err)
			}
			add(needs.interp)
		}
		for _, name := range needs.needed {
			lib, err := l.find(name, file, needs)
			if err != nil {
				return nil, err
			}
			add(lib)
		}
	}
	return files, nil
}

// find looks for one DT_NEEDED entry.
func (l *libraries) find(name, program string, needs elfNeeds) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	var dirs []string
	for _, dir := range needs.paths {
		origin := filepath.Dir(program)
		dir = strings.NewReplacer("$ORIGIN", origin, "${ORIGIN}", origin).Replace(dir)
		dirs = append(dirs, dir)
	}
	dirs = append(dirs, l.dirs...)
	for _, dir := range dirs {
		lib := filepath.Join(dir, name)
		// A library of another architecture is passed over, as by the loader.
		n, err := l.read(lib)
		if err == nil && n.class == needs.class && n.machine == needs.machine {
			return lib, nil
		}
	}
	return "", &LibraryError{Library: name, Program: program, Searched: dirs}
}
