// Kernel modules: from the names that a job wants to the list of files to
// load, in order. modules.dep is made by depmod after installation and is in
// no package, so the closure is built from what the modules say themselves in
// their .modinfo section (include/linux/module.h): depends, softdep, alias.

package guest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// A ModuleError tells that a kernel has not the module that a job needs.
type ModuleError struct {
	// Module is the name that could not be found.
	Module string
	// Dir is the directory of modules that was searched.
	Dir string
	// Chain leads from the wanted module to Module, when that is a dependency.
	Chain []string
}

func (e *ModuleError) Error() string {
	s := fmt.Sprintf("find module %s: neither in %s nor built in", e.Module, e.Dir)
	if len(e.Chain) > 0 {
		s += fmt.Sprintf(" (needed by %s)", strings.Join(e.Chain, " → "))
	}
	return s + "; use a kernel that has it"
}

// modinfo is what a module's .modinfo section says.
type modinfo struct {
	name    string
	depends []string
	pre     []string // softdep: load before, when there
	post    []string // softdep: load after, when there
	aliases []string
}

// requested lists what a module asks for only while it works, by
// request_module(), so that no section names it.
func requested(module string) []string {
	switch module {
	case "nf_tables":
		return []string{"nft_nat", "nft_redir", "nft_chain_nat", "nft_ct", "nft_compat"}
	case "nft_redir":
		return []string{"nft_chain_nat"}
	case "nft_nat":
		return []string{"nft_chain_nat"}
	case "ip_vs":
		return []string{"ip_vs_rr"}
	case "xt_REDIRECT":
		return []string{"iptable_nat", "xt_tcpudp"}
	case "iptable_nat":
		return []string{"xt_nat", "xt_tcpudp"}
	case "tls":
		return []string{"gcm"}
	}
	return nil
}

// moduleName is the canonical form: no directory, no suffix, underscores.
func moduleName(file string) string {
	name := file[strings.LastIndexByte(file, '/')+1:]
	for _, suffix := range []string{".xz", ".zst", ".gz"} {
		name = strings.TrimSuffix(name, suffix)
	}
	return strings.ReplaceAll(strings.TrimSuffix(name, ".ko"), "-", "_")
}

// isModule tells whether a file name is that of a module.
func isModule(file string) bool {
	return slices.ContainsFunc([]string{".ko", ".ko.xz", ".ko.zst", ".ko.gz"},
		func(suffix string) bool { return strings.HasSuffix(file, suffix) })
}

// moduleTree is a directory of modules such as /lib/modules/VERSION.
type moduleTree struct {
	dir     string
	files   map[string]string // canonical name → path
	builtin map[string]bool
	infos   map[string]*loadedModule
}

// loadedModule is a module that was read from disk.
type loadedModule struct {
	modinfo
	image []byte // decompressed ELF
}

// openModuleTree lists dir; modules are read when a closure needs them. Without
// dir there are none.
func openModuleTree(dir string) (*moduleTree, error) {
	t := &moduleTree{
		dir: dir, files: map[string]string{}, builtin: map[string]bool{}, infos: map[string]*loadedModule{},
	}
	if dir == "" {
		return t, nil
	}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type().IsRegular() && isModule(p) {
			t.files[moduleName(p)] = p
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list modules: %w", err)
	}
	for _, name := range []string{"modules.builtin", "kernel/modules.builtin"} {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			continue
		}
		for s := bufio.NewScanner(f); s.Scan(); {
			t.builtin[moduleName(s.Text())] = true
		}
		f.Close()
	}
	if b, err := os.ReadFile(filepath.Join(dir, "modules.builtin.modinfo")); err == nil {
		for _, name := range builtinNames(b) {
			t.builtin[name] = true
		}
	}
	return t, nil
}

// builtinNames parses modules.builtin.modinfo: NUL-terminated NAME.KEY=VALUE
// (scripts/Makefile.vmlinux). Aliases of built-in modules count as names.
func builtinNames(b []byte) []string {
	var names []string
	for entry := range bytes.SplitSeq(b, []byte{0}) {
		key, value, ok := bytes.Cut(entry, []byte("="))
		if !ok {
			continue
		}
		name, field, ok := bytes.Cut(key, []byte("."))
		if !ok {
			continue
		}
		if n := moduleName(string(name)); !slices.Contains(names[max(0, len(names)-4):], n) {
			names = append(names, n)
		}
		if string(field) == "alias" && !bytes.ContainsAny(value, "*?[") {
			names = append(names, moduleName(string(value)))
		}
	}
	return names
}

// parseModinfo reads a .modinfo section: NUL-terminated KEY=VALUE, padded
// with further NULs.
func parseModinfo(b []byte) modinfo {
	var m modinfo
	for entry := range bytes.SplitSeq(b, []byte{0}) {
		key, value, ok := strings.Cut(string(entry), "=")
		if !ok {
			continue
		}
		switch key {
		case "name":
			m.name = moduleName(value)
		case "depends":
			for name := range strings.SplitSeq(value, ",") {
				if name != "" {
					m.depends = append(m.depends, moduleName(name))
				}
			}
		case "softdep":
			m.softdep(value)
		case "alias":
			m.aliases = append(m.aliases, value)
		}
	}
	return m
}

// softdep parses "pre: a b post: c" (modprobe.d(5)); names without a heading
// are taken as pre.
func (m *modinfo) softdep(value string) {
	list := &m.pre
	for word := range strings.FieldsSeq(value) {
		switch word {
		case "pre:":
			list = &m.pre
		case "post:":
			list = &m.post
		default:
			*list = append(*list, moduleName(word))
		}
	}
}

// readModinfo finds the .modinfo section of a module's ELF image.
func readModinfo(image io.ReaderAt) (modinfo, error) {
	f, err := elf.NewFile(image)
	if err != nil {
		return modinfo{}, fmt.Errorf("read ELF: %w", err)
	}
	section := f.Section(".modinfo")
	if section == nil {
		return modinfo{}, errors.New("read ELF: no .modinfo section: not a kernel module")
	}
	b, err := section.Data()
	if err != nil {
		return modinfo{}, fmt.Errorf("read .modinfo: %w", err)
	}
	return parseModinfo(b), nil
}

// readModuleFile returns the ELF image of a module, decompressed.
func readModuleFile(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read module: %w", err)
	}
	defer f.Close()
	var r io.Reader = f
	switch filepath.Ext(file) {
	case ".xz":
		r, err = xz.NewReader(bufio.NewReader(f))
	case ".gz":
		r, err = gzip.NewReader(f)
	case ".zst":
		var d *zstd.Decoder
		if d, err = zstd.NewReader(f, zstd.WithDecoderConcurrency(1)); err == nil {
			defer d.Close()
			r = d
		}
	}
	if err != nil {
		return nil, fmt.Errorf("decompress %s: %w", file, err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("decompress %s: %w", file, err)
	}
	return b, nil
}

// module reads the module of that canonical name, once.
func (t *moduleTree) module(name string) (*loadedModule, error) {
	if m := t.infos[name]; m != nil {
		return m, nil
	}
	image, err := readModuleFile(t.files[name])
	if err != nil {
		return nil, err
	}
	info, err := readModinfo(bytes.NewReader(image))
	if err != nil {
		return nil, fmt.Errorf("read module %s: %w", t.files[name], err)
	}
	info.name = name
	m := &loadedModule{modinfo: info, image: image}
	t.infos[name] = m
	return m, nil
}

// resolve turns a name or an alias into the name of a module file. Built-in
// modules resolve to "". ok is false when the kernel has no such module.
func (t *moduleTree) resolve(name string, deep bool) (file string, ok bool) {
	name = moduleName(name)
	if t.files[name] != "" {
		return name, true
	}
	if t.builtin[name] {
		return "", true
	}
	// crc32c, sha256 and their like are aliases of a generic implementation.
	if g := name + "_generic"; t.files[g] != "" {
		return g, true
	}
	if t.builtin[name+"_generic"] {
		return "", true
	}
	if !deep {
		return "", false
	}
	for _, candidate := range slices.Sorted(maps.Keys(t.files)) {
		for _, alias := range t.aliases(candidate) {
			if aliasMatch(alias, name) {
				return candidate, true
			}
		}
	}
	return "", false
}

// aliases reads the aliases of a module without keeping its image. A module
// that cannot be read has none.
func (t *moduleTree) aliases(name string) []string {
	file := t.files[name]
	if filepath.Ext(file) != ".ko" {
		m, err := t.module(name)
		if err != nil {
			return nil
		}
		return m.aliases
	}
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := readModinfo(f)
	if err != nil {
		return nil
	}
	return info.aliases
}

// aliasMatch compares an alias pattern with a name as modprobe does: dashes
// and underscores are the same, * ? and [] are wild.
func aliasMatch(pattern, name string) bool {
	norm := func(s string) string { return strings.ReplaceAll(s, "-", "_") }
	if !strings.ContainsAny(pattern, "*?[") {
		return norm(pattern) == norm(name)
	}
	ok, err := filepath.Match(norm(pattern), norm(name))
	return err == nil && ok
}

// closure lists the modules that wanted need, each after those it depends on.
// Wanted names may be aliases. Optional ones, softdeps and those that are only
// asked for at run time are left out when the kernel has none; any other gap
// is a *ModuleError.
func (t *moduleTree) closure(wanted, optional []string) ([]*loadedModule, error) {
	c := closure{tree: t, seen: map[string]bool{}}
	var errs []error
	for _, name := range wanted {
		if err := c.add(name, nil, true); err != nil {
			errs = append(errs, err)
		}
	}
	for _, name := range optional {
		if err := c.try(name, nil); err != nil {
			errs = append(errs, err)
		}
	}
	return c.order, errors.Join(errs...)
}

type closure struct {
	tree *moduleTree
	// seen holds what is in order, or on its way there.
	seen  map[string]bool
	order []*loadedModule
}

func (c *closure) add(name string, chain []string, deep bool) error {
	file, ok := c.tree.resolve(name, deep)
	if !ok {
		return &ModuleError{Module: name, Dir: c.tree.dir, Chain: chain}
	}
	if file == "" || c.seen[file] { // built in, added, or a cycle of softdeps
		return nil
	}
	c.seen[file] = true
	m, err := c.tree.module(file)
	if err != nil {
		return err
	}
	chain = append(slices.Clip(chain), file)
	for _, pre := range m.pre {
		if err := c.try(pre, chain); err != nil {
			return err
		}
	}
	for _, dep := range m.depends {
		if err := c.add(dep, chain, false); err != nil {
			return err
		}
	}
	c.order = append(c.order, m)
	for _, post := range slices.Concat(m.post, requested(file)) {
		if err := c.try(post, chain); err != nil {
			return err
		}
	}
	return nil
}

// try adds a module that may be missing, with all it needs or not at all.
func (c *closure) try(name string, chain []string) error {
	order, seen := len(c.order), maps.Clone(c.seen)
	err := c.add(name, chain, false)
	var missing *ModuleError
	if errors.As(err, &missing) {
		c.order, c.seen = c.order[:order], seen
		return nil
	}
	return err
}
