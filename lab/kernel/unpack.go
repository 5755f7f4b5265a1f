// From packages to a directory with one kernel. Only what a guest needs is
// unpacked, and under names of our own: where a package keeps it differs
// between distributions and years.

package kernel

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// The files of a kernel in the cache.
const (
	vmlinuzFile  = "vmlinuz"
	umlFile      = "linux.uml"
	vmlinuxFile  = "vmlinux"
	configFile   = "config"
	modulesDir   = "modules"
	libsDir      = "lib"
	manifestFile = "kernel.json" // written last
)

// manifest is what the cache knows of a kernel, beside its files.
type manifest struct {
	Build
	Packages []Package `json:"packages"`
	NoELF    string    `json:"no_elf,omitempty"`
	// Bytes is the size of all files.
	Bytes int64 `json:"bytes"`
}

// place is where a file of a package belongs.
type place struct {
	// name is relative to the directory of the kernel; empty: not needed.
	name string
	// release is the kernel's that the file belongs to, when its path has it.
	release string
	gzipped bool
}

// placeOf knows the layouts: image, configuration and modules in /boot and
// /lib/modules, all of it in /usr/lib/modules, Debian's User-Mode Linux, and
// the C library that the latter needs. name is a clean relative path.
func placeOf(name string) place {
	name = strings.TrimPrefix(name, "usr/")
	if release, ok := strings.CutPrefix(name, "boot/vmlinuz-"); ok {
		return place{name: vmlinuzFile, release: release}
	}
	if release, ok := strings.CutPrefix(name, "boot/config-"); ok {
		return place{name: configFile, release: release}
	}
	for _, dir := range []string{"lib/modules/", "lib/uml/modules/"} {
		if rest, ok := strings.CutPrefix(name, dir); ok {
			release, file, _ := strings.Cut(rest, "/")
			switch {
			case file == "vmlinuz":
				return place{name: vmlinuzFile, release: release}
			case file == "config":
				return place{name: configFile, release: release}
			case isModule(file), strings.HasPrefix(file, "modules.builtin"), file == "modules.order":
				return place{name: path.Join(modulesDir, file), release: release}
			}
			return place{}
		}
	}
	switch name {
	case "bin/linux.uml":
		return place{name: umlFile}
	case "share/doc/user-mode-linux/config.gz":
		return place{name: configFile, gzipped: true}
	}
	if lib, ok := strings.CutPrefix(name, "lib/x86_64-linux-gnu/"); ok && !strings.Contains(lib, "/") {
		return place{name: path.Join(libsDir, lib)}
	}
	return place{}
}

// unpacker fills the directory of one kernel.
type unpacker struct {
	root    *os.Root
	dirs    map[string]bool
	release string
	// image names the package with the image; modules counts module files.
	image   control
	uml     bool
	modules int
	builtin bool
	bytes   int64
}

// unpack makes dir, which exists and is empty, the kernel that the packages,
// whose URIs are local files, hold. progress is told the share of bytes read.
func unpack(ctx context.Context, dir string, packages []Package, progress func(fraction float64)) (manifest, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return manifest{}, fmt.Errorf("unpack kernel: %w", err)
	}
	defer root.Close()
	u := unpacker{root: root, dirs: map[string]bool{}}
	total, read := int64(1), int64(0)
	for _, p := range packages {
		total += p.Size
	}
	for i, p := range packages {
		c, err := u.add(ctx, p, func(n int) {
			read += int64(n)
			progress(float64(read) / float64(total))
		})
		if err != nil {
			return manifest{}, fmt.Errorf("unpack %s: %w", filepath.Base(p.URI), err)
		}
		packages[i].Name, packages[i].Version = c.name, c.version
	}
	m, err := u.manifest(dir, packages)
	if err != nil {
		return m, fmt.Errorf("unpack %s: %w", packageNames(packages), err)
	}
	return m, nil
}

func packageNames(packages []Package) string {
	var names []string
	for _, p := range packages {
		names = append(names, filepath.Base(p.URI))
	}
	return strings.Join(names, " and ")
}

// add unpacks one package, and compares its digest.
func (u *unpacker) add(ctx context.Context, p Package, count func(n int)) (control, error) {
	f, err := os.Open(p.URI)
	if err != nil {
		return control{}, err //nolint:wrapcheck // names the file
	}
	defer f.Close()
	digest := sha256.New()
	in := io.TeeReader(&contextReader{ctx: ctx, r: f, count: count}, digest)
	hadImage := u.hasImage()
	c, err := readDeb(in, u.file)
	if ctx.Err() != nil {
		return c, context.Cause(ctx) //nolint:wrapcheck // the caller's own
	}
	if err != nil {
		return c, err
	}
	if sum := hex.EncodeToString(digest.Sum(nil)); sum != p.SHA256 {
		return c, fmt.Errorf("%w: its SHA-256 is %s, not %s", errCorrupt, sum, p.SHA256)
	}
	if c.arch != arch && c.arch != "all" {
		return c, input("it is for %s; only kernels for %s can run here", c.arch, arch)
	}
	if u.hasImage() && !hadImage {
		u.image = c
	}
	return c, nil
}

func (u *unpacker) hasImage() bool {
	return u.exists(vmlinuzFile) || u.exists(umlFile)
}

func (u *unpacker) exists(name string) bool {
	_, err := u.root.Lstat(name)
	return err == nil
}

// file unpacks one file of a package, when it is needed.
func (u *unpacker) file(h *tar.Header, r io.Reader) error {
	p := placeOf(h.Name)
	if p.name == "" {
		return nil
	}
	if p.release != "" {
		if !validRelease(p.release) {
			return fmt.Errorf("%w: %s is of no kernel release", errCorrupt, h.Name)
		}
		if u.release == "" {
			u.release = p.release
		}
		if u.release != p.release {
			return input("it holds files of Linux %s beside those of %s; give packages of one kernel", p.release, u.release)
		}
	}
	if dir := path.Dir(p.name); !u.dirs[dir] {
		if err := u.root.MkdirAll(dir, 0o755); err != nil {
			return err //nolint:wrapcheck // names the directory
		}
		u.dirs[dir] = true
	}
	if h.Typeflag == tar.TypeSymlink {
		return u.symlink(p.name, h.Linkname)
	}
	if p.gzipped {
		plain, err := gzip.NewReader(r)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", errCorrupt, h.Name, err)
		}
		r = io.LimitReader(plain, maxControl)
	}
	mode := os.FileMode(0o644)
	if p.name == umlFile || path.Dir(p.name) == libsDir {
		mode = 0o755
	}
	switch base := path.Base(p.name); {
	case isModule(p.name):
		u.modules++
	case strings.HasPrefix(base, "modules.builtin"):
		u.builtin = true
	case p.name == umlFile:
		u.uml = true
	}
	f, err := u.root.OpenFile(p.name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if errors.Is(err, os.ErrExist) {
		return input("it holds a second %s (%s); give packages of one kernel", p.name, h.Name)
	}
	if err != nil {
		return err //nolint:wrapcheck // names the file
	}
	n, err := io.Copy(f, r)
	u.bytes += n
	return errors.Join(err, f.Close())
}

// symlink keeps the links between libraries, the only ones that are needed.
func (u *unpacker) symlink(name, target string) error {
	if path.Dir(name) != libsDir || strings.Contains(target, "/") {
		return nil
	}
	return u.root.Symlink(target, name) //nolint:wrapcheck // names the link
}

// manifest checks that the kernel is whole, and makes its ELF image.
func (u *unpacker) manifest(dir string, packages []Package) (manifest, error) {
	m := manifest{Packages: packages, Bytes: u.bytes}
	if !u.hasImage() {
		return m, input("they hold no kernel image; add the package linux-image-RELEASE or linux-binary-RELEASE")
	}
	if u.modules == 0 && !u.builtin {
		return m, input("they hold no modules; add the package linux-modules-%s", u.release)
	}
	name := vmlinuzFile
	if u.uml {
		name = umlFile
	}
	file := filepath.Join(dir, name)
	img, err := openImage(file)
	if err != nil {
		return m, err
	}
	if img.uml != u.uml {
		return m, fmt.Errorf("%w: %s is not what its name says", errCorrupt, name)
	}
	if u.release != "" && img.release != u.release {
		return m, input("the image is Linux %s, the modules are for %s", img.release, u.release)
	}
	m.Build = Build{Release: img.release, Version: u.image.version, UML: u.uml}
	if u.uml {
		m.Version = img.release // its package counts differently
		return m, nil
	}
	elf := filepath.Join(dir, vmlinuxFile)
	if m.NoELF, err = writeELF(file, elf); err != nil {
		return m, err
	}
	if info, err := os.Stat(elf); err == nil {
		m.Bytes += info.Size()
	}
	return m, nil
}

// openImage reads what an image file is.
func openImage(file string) (image, error) {
	f, err := os.Open(file)
	if err != nil {
		return image{}, fmt.Errorf("read kernel image: %w", err)
	}
	defer f.Close()
	img, err := readImage(f)
	if err != nil {
		return img, fmt.Errorf("%s: %w", file, err)
	}
	return img, nil
}

// contextReader ends with its context, and counts.
type contextReader struct {
	ctx   context.Context
	r     io.Reader
	count func(n int)
}

func (c *contextReader) Read(b []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx) //nolint:wrapcheck // the caller's own
	}
	n, err := c.r.Read(b)
	c.count(n)
	return n, err //nolint:wrapcheck // io.EOF must stay what it is
}
