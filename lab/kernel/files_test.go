package kernel

import (
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// tree makes files below a new directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		writeFile(t, filepath.Join(dir, name), content)
	}
	return dir
}

// Image and modules are found where installations and builds leave them.
func TestResolveFiles(t *testing.T) {
	const release = "6.8.0"
	image, config := imageOf(t, release), "CONFIG_VETH=y\n"
	ko := module(release)
	for name, tt := range map[string]struct {
		files map[string]string
		ref   string // below the directory
		// image and modules are below the directory.
		image, modules string
	}{
		"dir-pkg": {
			map[string]string{"boot/vmlinuz-6.8.0": image, "boot/config-6.8.0": config, "lib/modules/6.8.0/kernel/a.ko": ko, "boot/vmlinuz-old": "x"},
			"", "boot/vmlinuz-6.8.0", "lib/modules/6.8.0",
		},
		"/usr": {
			map[string]string{"usr/lib/modules/6.8.0/vmlinuz": image, "usr/lib/modules/6.8.0/config": config, "usr/lib/modules/6.8.0/kernel/a.ko.zst": string(compress(t, "zst", []byte(ko)))},
			"", "usr/lib/modules/6.8.0/vmlinuz", "usr/lib/modules/6.8.0",
		},
		"build tree": {
			map[string]string{"arch/x86/boot/bzImage": image, ".config": config, "net/ipv4/ipip.ko": ko, "net/ipv4/ipip.o": "x"},
			"", "arch/x86/boot/bzImage", ".",
		},
		"built in": {
			map[string]string{"vmlinuz": image, "config-6.8.0": config, "lib/modules/6.8.0/modules.builtin": ""},
			"", "vmlinuz", "lib/modules/6.8.0",
		},
		"installed image": {
			map[string]string{"boot/vmlinuz-6.8.0": image, "boot/config-6.8.0": config, "lib/modules/6.8.0/kernel/a.ko.gz": string(compress(t, "gz", []byte(ko)))},
			"/boot/vmlinuz-6.8.0", "boot/vmlinuz-6.8.0", "lib/modules/6.8.0",
		},
		"modules elsewhere": {
			map[string]string{"bzImage": image, "config-6.8.0": config, "m/kernel/a.ko.xz": string(compress(t, "xz", []byte(ko)))},
			"/bzImage,modules=DIR/m", "bzImage", "m",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, tt.files)
			k, err := newCache(t).Resolve(t.Context(), dir+strings.ReplaceAll(tt.ref, "DIR", dir))
			if err != nil {
				t.Fatal(err)
			}
			if k.Release != release || k.Image != filepath.Join(dir, tt.image) || k.Modules != filepath.Join(dir, tt.modules) {
				t.Errorf("kernel is %+v", k)
			}
			if got := readString(t, k.Config); got != config {
				t.Errorf("config is %q", got)
			}
			if got := readString(t, k.ELF); got != string(vmlinux(release, true)) {
				t.Errorf("ELF image has %d bytes", len(got))
			}
		})
	}
}

func TestBadFiles(t *testing.T) {
	image, ko := imageOf(t, "6.8.0"), module("6.8.0")
	for name, tt := range map[string]struct {
		files     map[string]string
		ref, want string
	}{
		"nothing":       {nil, "/none", "it does not exist"},
		"no image":      {map[string]string{"lib/modules/6.8.0/a.ko": ko}, "", "holds no kernel image"},
		"no modules":    {map[string]string{"vmlinuz": image}, "", "the modules of Linux 6.8.0 are not in lib/modules/6.8.0"},
		"empty":         {map[string]string{"vmlinuz": image, "m/x": ""}, "/vmlinuz,modules=DIR/m", "holds no modules"},
		"other":         {map[string]string{"vmlinuz": image, "m/a.ko": module("6.8.1")}, "/vmlinuz,modules=DIR/m", "the image is Linux 6.8.0, but the modules in DIR/m are for 6.8.1"},
		"no module":     {map[string]string{"vmlinuz": image, "m/a.ko": "x"}, "/vmlinuz,modules=DIR/m", "does not say which release"},
		"bad module":    {map[string]string{"vmlinuz": image, "m/a.ko.xz": string(compress(t, "xz", []byte(ko))[:40])}, "/vmlinuz,modules=DIR/m", "corrupt or truncated"},
		"several":       {map[string]string{"boot/vmlinuz-6.8.0": image, "boot/vmlinuz-6.9": imageOf(t, "6.9")}, "", "holds several kernels: 6.8.0, 6.9; name one: DIR/boot/vmlinuz-6.8.0,modules=DIR"},
		"no kernel":     {map[string]string{"vmlinuz": "MZ", "lib/modules/6.8.0/a.ko": ko}, "", "neither a bzImage for x86 nor an ELF file"},
		"other modules": {map[string]string{"vmlinuz": image, "a.ko": module("6.9")}, "", "are for 6.9"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, tt.files)
			_, err := newCache(t).Resolve(t.Context(), dir+strings.ReplaceAll(tt.ref, "DIR", dir))
			if want := strings.ReplaceAll(tt.want, "DIR/", dir+"/"); err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, ErrInput) {
				t.Errorf("error is %v, want one with %q", err, want)
			}
		})
	}
}

// An image that QEMU cannot start as ELF file is found out once.
func TestImageWithoutPVH(t *testing.T) {
	dir := tree(t, map[string]string{"vmlinuz": string(bzImage(t, "6.8.0", "gz", vmlinux("6.8.0", false))), "a.ko": module("6.8.0")})
	cache := newCache(t)
	for range 2 {
		k, err := cache.Resolve(t.Context(), dir)
		if err != nil || k.ELF != "" || k.NoELF != noPVH {
			t.Errorf("%+v, %v", k, err)
		}
	}
	dir = tree(t, map[string]string{"vmlinuz": string(vmlinux("6.8.0", true)), "a.ko": module("6.8.0")})
	if k, err := cache.Resolve(t.Context(), dir); err != nil || k.ELF != k.Image {
		t.Errorf("a vmlinux: %+v, %v", k, err)
	}
}

// fakeUML is a program that answers --version, and has the text of a kernel.
func fakeUML(t *testing.T, release string) string {
	t.Helper()
	path, err := exec.LookPath("true")
	if err != nil {
		t.Fatal(err)
	}
	return readString(t, path) + "\x00" + banner + release + " (test)\x00"
}

func TestResolveUML(t *testing.T) {
	files := map[string]string{"linux": fakeUML(t, "6.1.99"), "net/a.ko": module("6.1.99"), ".config": "CONFIG_UML=y\n"}
	dir := tree(t, files)
	k, err := newCache(t).Resolve(t.Context(), dir)
	if err != nil || !k.UML || k.Release != "6.1.99" || k.Image != filepath.Join(dir, "linux") || k.Libs != "" || k.ELF != "" {
		t.Errorf("%+v, %v", k, err)
	}
	writeFile(t, filepath.Join(dir, "linux"), strings.ReplaceAll(files["linux"], "ld-linux", "no-linux"))
	if _, err := newCache(t).Resolve(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "does not run on this system") {
		t.Errorf("one that cannot start: %v", err)
	}
}

// A User-Mode Linux that the system's libraries do not suit runs with those
// that came with it, also after the cache was moved.
func TestOwnLibraries(t *testing.T) {
	program := fakeUML(t, "6.1.99")
	path, err := exec.LookPath("true")
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ld := interpreter(path)
	needed, err := f.ImportedLibraries()
	if err != nil || ld == "" {
		t.Fatal(ld, err)
	}
	deb := pkg{name: "user-mode-linux", version: "6.1um4", files: []file{
		// The same program with a loader that no system has.
		{name: "./usr/bin/linux.uml", content: strings.ReplaceAll(program, ld, strings.Repeat("/", len(ld)-4)+"none")},
		{name: "./usr/lib/uml/modules/6.1.99/kernel/a.ko", content: module("6.1.99")},
		{name: "./usr/share/doc/user-mode-linux/config.gz", content: string(compress(t, "gz", []byte("CONFIG_UML=y\n")))},
	}}
	libc := pkg{name: "libc6", version: "2.36"}
	for _, lib := range append(needed, filepath.Base(ld)) {
		file := file{name: "./usr/lib/x86_64-linux-gnu/" + lib}
		for _, dir := range []string{filepath.Dir(ld), "/lib/x86_64-linux-gnu", "/usr/lib64"} {
			if b, err := os.ReadFile(filepath.Join(dir, lib)); err == nil && file.content == "" {
				file.content = string(b)
			}
		}
		libc.files = append(libc.files, file)
	}
	dir := t.TempDir()
	ref := deb.write(t, dir) + "+" + libc.write(t, dir)
	cache := newCache(t)
	for range 2 {
		k, err := cache.Resolve(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		if !k.UML || k.Version != "6.1.99" || k.Libs == "" || readString(t, k.Config) != "CONFIG_UML=y\n" {
			t.Errorf("kernel is %+v", k)
		}
		if got, want := interpreter(k.Image), filepath.Join(k.Libs, loader); got != want {
			t.Errorf("its loader is %s, want %s", got, want)
		}
		if err := starts(t.Context(), k.Image, k.Libs); err != nil {
			t.Error(err)
		}
		moved := cache.Dir + "-moved"
		if err := os.Rename(cache.Dir, moved); err != nil {
			t.Fatal(err)
		}
		cache.Dir = moved
	}
	if k, err := newCache(t).Resolve(t.Context(), strings.Split(ref, "+")[0]); err == nil {
		t.Errorf("without libraries: %+v", k)
	}
}
