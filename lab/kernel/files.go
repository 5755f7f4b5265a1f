// Kernels that are files of this machine: an image and its modules, a tree
// that holds both, packages. They stay where they are; only an image's ELF
// form is kept in the cache, by the digest of the image.

package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// siblings are a package and the others beside it of the same kernel: Debian
// and Ubuntu both split image and modules, in different ways.
func siblings(file string) []string {
	dir, base := filepath.Split(file)
	kinds := []string{"linux-image-unsigned-", "linux-image-", "linux-binary-", "linux-modules-extra-", "linux-modules-", "linux-base-"}
	kindOf := func(base string) string {
		at := slices.IndexFunc(kinds, func(kind string) bool { return strings.HasPrefix(base, kind) })
		if at < 0 {
			return ""
		}
		return kinds[at]
	}
	kind := kindOf(base)
	if kind == "" {
		return []string{file}
	}
	files := []string{file}
	rest := strings.TrimPrefix(base, kind) // RELEASE_VERSION_ARCH.deb
	for _, other := range kinds {
		sameKind := strings.HasPrefix(kind, "linux-image-") && strings.HasPrefix(other, "linux-image-")
		if name := filepath.Join(dir, other+rest); other != kind && !sameKind && exists(name) {
			files = append(files, name)
		}
	}
	return files
}

// resolveFiles finds image, modules and configuration below a path, and checks
// that they belong together.
func (s *store) resolveFiles(ctx context.Context, r Ref) (Kernel, error) {
	k, err := s.findFiles(ctx, r)
	if err != nil {
		return Kernel{}, fmt.Errorf("kernel %s: %w", r, err)
	}
	if k.UML {
		return k, k.adapt(ctx, "")
	}
	return k, nil
}

func (s *store) findFiles(ctx context.Context, r Ref) (Kernel, error) {
	k := Kernel{Ref: r.String(), Arch: arch}
	info, err := os.Stat(r.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return k, input("it does not exist; a reference is a version such as 6.12, uml, uml/6.1, or a path")
	}
	if err != nil {
		return k, err //nolint:wrapcheck // names the file
	}
	root := filepath.Dir(r.Path)
	var img image
	if info.IsDir() {
		root = r.Path
		if k.Image, img, err = findImage(root); err != nil {
			return k, err
		}
	} else {
		k.Image = r.Path
		if img, err = openImage(r.Path); err != nil {
			return k, err
		}
	}
	k.Release, k.UML = img.release, img.uml
	if k.Modules = r.Modules; k.Modules == "" {
		if k.Modules, err = findModules(root, img.release, info.IsDir()); err != nil {
			return k, err
		}
	}
	if err := checkModules(k.Modules, img.release); err != nil {
		return k, err
	}
	for _, file := range []*string{&k.Image, &k.Modules, &root} {
		if *file, err = filepath.Abs(*file); err != nil {
			return k, err //nolint:wrapcheck // names the file
		}
	}
	k.Source = k.Image
	k.Config = findConfig(root, k.Modules, img.release)
	if k.SHA256, _, err = digestFile(k.Image); err != nil {
		return k, err
	}
	if !img.uml {
		k.ELF, k.NoELF, err = s.imageELF(ctx, k.Image, k.SHA256, img)
	}
	return k, err
}

// findImage finds the one kernel image in a tree as an installation, a package
// or a build leaves it.
func findImage(root string) (string, image, error) {
	var files []string
	for _, pattern := range []string{
		"vmlinuz", "vmlinuz-*", "bzImage", "linux.uml", "linux", "boot/vmlinuz", "boot/vmlinuz-*", "arch/x86/boot/bzImage",
		"lib/modules/*/vmlinuz", "usr/lib/modules/*/vmlinuz", "bin/linux.uml", "usr/bin/linux.uml",
	} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return "", image{}, fmt.Errorf("search %s: %w", root, err)
		}
		files = append(files, found...)
	}
	var (
		images  = map[string]image{} // by release
		names   = map[string]string{}
		order   []string
		lastErr error
	)
	for _, file := range files {
		if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() {
			continue
		}
		img, err := openImage(file)
		if err != nil {
			lastErr = err
			continue
		}
		if _, ok := images[img.release]; !ok {
			images[img.release], names[img.release] = img, file
			order = append(order, img.release)
		}
	}
	switch {
	case len(order) == 1:
		return names[order[0]], images[order[0]], nil
	case len(order) == 0 && lastErr != nil:
		return "", image{}, lastErr
	case len(order) == 0:
		return "", image{}, input("%s holds no kernel image such as vmlinuz, boot/vmlinuz-RELEASE or arch/x86/boot/bzImage", root)
	}
	return "", image{}, input("%s holds several kernels: %s; name one: %s,modules=DIR", root, strings.Join(order, ", "), names[order[0]])
}

// findModules finds the modules of a release: below root or the directory
// above, where installations have them, or anywhere in root when the user
// named it.
func findModules(root, release string, anywhere bool) (string, error) {
	for _, base := range []string{root, filepath.Join(root, "..")} {
		for _, dir := range []string{"lib/modules", "usr/lib/modules", "usr/lib/uml/modules", "lib/uml/modules"} {
			if dir := filepath.Join(base, dir, release); exists(dir) {
				return dir, nil
			}
		}
	}
	if _, err := firstModule(root); anywhere && err == nil {
		return root, nil
	}
	return "", input("the modules of Linux %s are not in lib/modules/%s beside the image; add ,modules=DIR", release, release)
}

// firstModule is some module below dir.
func firstModule(dir string) (string, error) {
	var first string
	err := walkModules(dir, func(file string) error {
		first = file
		return fs.SkipAll
	})
	if err == nil && first == "" {
		err = input("%s holds no modules", dir)
	}
	return first, err
}

// checkModules makes sure that the modules in dir are those of a release: a
// kernel refuses all others, one after the other, at boot.
func checkModules(dir, release string) error {
	file, err := firstModule(dir)
	if err != nil {
		if exists(filepath.Join(dir, "modules.builtin")) {
			return nil // everything is built in
		}
		return err
	}
	got, err := vermagic(file)
	if err != nil {
		return err
	}
	if got != release {
		return input("the image is Linux %s, but the modules in %s are for %s", release, dir, got)
	}
	return nil
}

// vermagic is the release that a module was built for (include/linux/vermagic.h).
func vermagic(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("read module: %w", err)
	}
	defer f.Close()
	plain, done, err := decompress(f)
	if err != nil {
		return "", fmt.Errorf("read module %s: %w", file, err)
	}
	defer done()
	b, err := io.ReadAll(io.LimitReader(plain, maxModule))
	if err != nil {
		return "", fmt.Errorf("read module %s: %w: %w", file, errCorrupt, err)
	}
	_, after, ok := bytes.Cut(b, []byte("\x00vermagic="))
	release, _, _ := strings.Cut(string(after[:min(128, len(after))]), " ")
	if !ok || !validRelease(release) {
		return "", fmt.Errorf("read module %s: %w: it does not say which release it is for", file, errCorrupt)
	}
	return release, nil
}

// maxModule bounds a module; the largest, with debug information, have some
// ten MiB.
const maxModule = 256 << 20

// findConfig finds the build configuration where installations and builds
// leave it; "" when it is nowhere.
func findConfig(root, modules, release string) string {
	for _, file := range []string{
		filepath.Join(root, "config-"+release), filepath.Join(root, "boot", "config-"+release),
		filepath.Join(modules, "config"), filepath.Join(modules, "build", ".config"), filepath.Join(root, ".config"),
	} {
		if exists(file) {
			return file
		}
	}
	return ""
}

// imageELF is the ELF form of an image from elsewhere, made once and kept in
// the cache by the digest of the image.
func (s *store) imageELF(ctx context.Context, file, digest string, img image) (elf, why string, err error) {
	if img.elf {
		return vmlinuxELF(file)
	}
	dir := s.at("images", digest)
	elf, reason := filepath.Join(dir, vmlinuxFile), filepath.Join(dir, "no-elf")
	if !exists(dir) {
		unlock, err := s.lock(ctx)
		if err != nil {
			return "", "", err
		}
		defer unlock()
	}
	if !exists(dir) {
		err := s.build(dir, func(temporary string) error {
			why, err := writeELF(file, filepath.Join(temporary, vmlinuxFile))
			if err == nil && why != "" {
				err = os.WriteFile(filepath.Join(temporary, filepath.Base(reason)), []byte(why), 0o644)
			}
			return err //nolint:wrapcheck // names the file
		})
		if err != nil {
			return "", "", err
		}
	}
	touch(dir)
	if b, err := os.ReadFile(reason); err == nil {
		return "", string(b), nil
	}
	return elf, "", nil
}

// vmlinuxELF is for an image that is an ELF file already.
func vmlinuxELF(file string) (elf, why string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return "", "", fmt.Errorf("read kernel image: %w", err)
	}
	defer f.Close()
	if _, ok, err := PVHEntry(f); err != nil || !ok {
		return "", noPVH, err
	}
	return file, "", nil
}
