package kernel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("PMTULAB_TEST_CACHE"); dir != "" {
		os.Exit(child(dir, os.Getenv("PMTULAB_TEST_REF")))
	}
	os.Exit(m.Run())
}

// child resolves a reference and tells of every step.
func child(dir, ref string) int {
	cache := Cache{Dir: dir, Progress: func(p Progress) { fmt.Printf("%s %.3f\n", p.Step, p.Fraction) }}
	k, err := cache.Resolve(context.Background(), ref)
	fmt.Println("end", k.Release, err)
	if err != nil {
		return 1
	}
	return 0
}

func childCommand(t *testing.T, dir, ref string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), "PMTULAB_TEST_CACHE="+dir, "PMTULAB_TEST_REF="+ref)
	cmd.Stderr = os.Stderr
	return cmd
}

const release = "6.1.0-56-cloud-amd64"

// The layouts that distributions have had all come to the same.
func TestResolvePackages(t *testing.T) {
	const modules = "/kernel/net/netfilter/ipvs/ip_vs.ko"
	split := []pkg{
		{name: "linux-binary-" + release, version: "6.1.192-2", files: []file{
			{name: "./usr/lib/modules/" + release + "/vmlinuz", content: imageOf(t, release)},
		}},
		{name: "linux-modules-" + release, version: "6.1.192-2", files: []file{
			{name: "./usr/lib/modules/" + release + modules + ".xz", content: string(compress(t, "xz", []byte(module(release))))},
		}},
		{name: "linux-base-" + release, version: "6.1.192-2", files: []file{
			{name: "./usr/lib/modules/" + release + "/config", content: "CONFIG_IP_VS=m\n"},
		}},
		{name: "linux-image-" + release, version: "6.1.192-2", arch: "amd64"},
	}
	ubuntu := []pkg{
		{name: "linux-image-unsigned-" + release, version: "6.1.192-2", compression: "zst", files: []file{
			{name: "./boot/vmlinuz-" + release, content: string(bzImage(t, release, "zst", vmlinux(release, true)))},
		}},
		{name: "linux-modules-" + release, version: "6.1.192-2", compression: "zst", files: []file{
			{name: "./boot/config-" + release, content: "CONFIG_IP_VS=m\n"},
			{name: "./lib/modules/" + release + modules + ".zst", content: string(compress(t, "zst", []byte(module(release))))},
		}},
	}
	for name, packages := range map[string][]pkg{
		"one": {debianPackage(t, release, "6.1.192-2")}, "split": split, "ubuntu": ubuntu,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var files []string
			for _, p := range packages {
				files = append(files, p.write(t, dir))
			}
			// The first package leads to those beside it.
			for _, ref := range []string{files[0], strings.Join(files, "+")} {
				k, err := newCache(t).Resolve(t.Context(), ref)
				if err != nil {
					t.Fatal(err)
				}
				if k.Release != release || k.Version != "6.1.192-2" || k.UML || k.Arch != "amd64" || k.Ref != ref {
					t.Errorf("kernel is %+v", k)
				}
				if img, err := openImage(k.Image); err != nil || img.release != release {
					t.Errorf("image %+v, %v", img, err)
				}
				if got := readString(t, k.ELF); got != string(vmlinux(release, true)) {
					t.Errorf("ELF image has %d bytes", len(got))
				}
				if err := checkModules(k.Modules, release); err != nil {
					t.Error(err)
				}
				if got := readString(t, k.Config); !strings.HasPrefix(got, "CONFIG_IP_VS=m\n") {
					t.Errorf("config is %q", got)
				}
			}
		})
	}
}

// Only what a guest needs is unpacked, and nothing outside.
func TestUnpackStaysInside(t *testing.T) {
	dir := t.TempDir()
	p := debianPackage(t, release, "6.1.192-2")
	p.files = append(p.files,
		file{name: "./lib/modules/" + release + "/../../../../../../evil.ko", content: "x"},
		file{name: "../../evil", content: "x"},
		file{name: "./usr/lib/x86_64-linux-gnu/libevil.so", link: "/etc/passwd"},
		file{name: "./usr/lib/x86_64-linux-gnu/libc.so.6", link: "libc-2.31.so"},
		file{name: "./lib/modules/" + release + "/build", link: "/usr/src"},
	)
	cache := newCache(t)
	k, err := cache.Resolve(t.Context(), p.write(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	root := filepath.Dir(filepath.Dir(cache.Dir))
	err = filepath.WalkDir(filepath.Dir(cache.Dir), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, err := filepath.Rel(filepath.Dir(k.Image), path)
			got = append(got, rel)
			return err
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "config kernel.json lib/libc.so.6 modules/kernel/drivers/net/veth.ko modules/kernel/net/ipv4/ipip.ko" +
		" modules/kernel/net/netfilter/ipvs/ip_vs.ko modules/modules.builtin vmlinux vmlinuz ../../lock"
	if strings.Join(got, " ") != want {
		t.Errorf("below %s:\n%q\nwant\n%q", root, got, strings.Fields(want))
	}
}

// Each bad package is one clear error, and leaves nothing.
func TestBadPackages(t *testing.T) {
	whole := debianPackage(t, release, "6.1.192-2")
	without := func(prefix string) pkg {
		p := whole
		p.files = nil
		for _, f := range whole.files {
			if !strings.HasPrefix(f.name, prefix) {
				p.files = append(p.files, f)
			}
		}
		return p
	}
	with := func(files ...file) pkg {
		p := whole
		p.files = append(append([]file{}, whole.files...), files...)
		return p
	}
	arm := whole
	arm.arch = "arm64"
	other := without("./boot/vmlinuz")
	other.files = append(other.files, file{name: "./boot/vmlinuz-" + release, content: imageOf(t, "6.1.0-57-cloud-amd64")})
	damaged := whole.bytes(t)
	damaged[len(damaged)/2] ^= 0x10

	for name, tt := range map[string]struct {
		content []byte
		want    string
	}{
		"truncated":    {whole.bytes(t)[:1000], "corrupt or truncated"},
		"damaged":      {damaged, "corrupt or truncated"},
		"not a deb":    {[]byte("#!/bin/sh\n"), "it does not start as a .deb does"},
		"empty":        {nil, "it does not start as a .deb does"},
		"architecture": {arm.bytes(t), "it is for arm64; only kernels for amd64 can run here"},
		"no image":     {without("./boot").bytes(t), "they hold no kernel image; add the package linux-image"},
		"no modules":   {without("./lib/modules").bytes(t), "they hold no modules; add the package linux-modules-" + release},
		"two releases": {with(file{name: "lib/modules/6.9/kernel/a.ko", content: "x"}).bytes(t), "Linux 6.9 beside those of " + release},
		"two images":   {with(file{name: "usr/lib/modules/" + release + "/vmlinuz", content: "x"}).bytes(t), "it holds a second vmlinuz"},
		"other image":  {other.bytes(t), "the image is Linux 6.1.0-57-cloud-amd64, the modules are for " + release},
		"bad release":  {with(file{name: "lib/modules/$(id)/kernel/a.ko", content: "x"}).bytes(t), "of no kernel release"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "x.deb")
			writeFile(t, file, string(tt.content))
			cache := newCache(t)
			_, err := cache.Resolve(t.Context(), file)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "x.deb") {
				t.Errorf("error is %v, want one with %q and the file", err, tt.want)
			}
			if !errors.Is(err, ErrInput) {
				t.Error("it is not ErrInput")
			}
			if left, err := os.ReadDir(filepath.Join(cache.Dir, "kernels")); err != nil || len(left) > 0 {
				t.Errorf("left are %v, %v", left, err)
			}
		})
	}
}

// A cached kernel needs no work, no right to write, and no package.
func TestCached(t *testing.T) {
	dir := t.TempDir()
	file := debianPackage(t, release, "6.1.192-2").write(t, dir)
	cache := newCache(t)
	first, err := cache.Resolve(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	cache.Progress = func(p Progress) { t.Errorf("work: %s", p.Step) }
	second, err := cache.Resolve(t.Context(), file)
	if err != nil || second != first {
		t.Errorf("%+v, %v; want %+v", second, err, first)
	}
	cache.Offline = true
	for _, ref := range []string{"6", "6.1", "6.1.192", "6.1.192-2", release} {
		if k, err := cache.Resolve(t.Context(), ref); err != nil || k.Image != first.Image {
			t.Errorf("%s: %v", ref, err)
		}
	}
	var unknown *UnknownError
	if _, err := cache.Resolve(t.Context(), "6.2"); !errors.As(err, &unknown) || !strings.Contains(err.Error(), "nearest: 6.1") {
		t.Errorf("6.2: %v", err)
	}
}

// Without apt, what is cached and what is a file still serves.
func TestNoApt(t *testing.T) {
	t.Setenv("PATH", "")
	cache := newCache(t)
	if _, err := cache.Resolve(t.Context(), "6.1"); !errors.Is(err, ErrNoApt) || !strings.Contains(err.Error(), "give a .deb") {
		t.Errorf("6.1: %v", err)
	}
	if _, err := cache.Resolve(t.Context(), debianPackage(t, release, "6.1.192-2").write(t, t.TempDir())); err != nil {
		t.Fatal(err)
	}
	if k, err := cache.Resolve(t.Context(), "6.1"); err != nil || k.Release != release {
		t.Errorf("6.1, cached: %v", err)
	}
	if _, err := cache.Resolve(t.Context(), "6.12"); !errors.Is(err, ErrNoApt) || !strings.Contains(err.Error(), "cached are: 6.1.192") {
		t.Errorf("6.12: %v", err)
	}
}

// Of processes that want the same kernel at once, one does the work.
func TestTwoProcesses(t *testing.T) {
	file := bigPackage(t, 64).write(t, t.TempDir())
	dir := filepath.Join(t.TempDir(), "cache")
	var outputs [3]strings.Builder
	var children []*exec.Cmd
	for i := range outputs {
		cmd := childCommand(t, dir, file)
		cmd.Stdout = &outputs[i]
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		children = append(children, cmd)
	}
	worked := 0
	for i, cmd := range children {
		err := cmd.Wait()
		if out := outputs[i].String(); err != nil || !strings.Contains(out, "end "+release) {
			t.Errorf("%v: %s", err, out)
		} else if strings.Contains(out, "unpack ") {
			worked++
		}
	}
	if worked != 1 {
		t.Errorf("%d processes unpacked the package, want 1", worked)
	}
}

// bigPackage has a module of some MiB: with many, unpacking can be interrupted.
func bigPackage(t testing.TB, mib int) pkg {
	p := debianPackage(t, release, "6.1.192-2")
	p.compression = "none"
	p.files = append(p.files, file{name: "lib/modules/" + release + "/kernel/big.ko", content: strings.Repeat("0123456789abcdef", mib<<16)})
	return p
}

// A process that is killed half-way leaves a cache that works.
func TestKilled(t *testing.T) {
	file := bigPackage(t, 64).write(t, t.TempDir())
	cache := newCache(t)
	cmd := childCommand(t, cache.Dir, file)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	for s := bufio.NewScanner(out); s.Scan(); {
		if strings.Contains(s.Text(), " 0.3") {
			break
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	left, err := os.ReadDir(filepath.Join(cache.Dir, "kernels"))
	if err != nil || len(left) != 1 || !strings.HasSuffix(left[0].Name(), temporarySuffix) {
		t.Fatalf("left are %v, %v: the child was not half-way", left, err)
	}
	if cached, err := cache.List(); err != nil || len(cached) > 0 {
		t.Errorf("half a kernel is listed: %v, %v", cached, err)
	}
	k, err := cache.Resolve(t.Context(), file)
	if err != nil || k.Release != release {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Join(cache.Dir, "kernels")); err != nil || len(left) != 1 {
		t.Errorf("left are %v, %v", left, err)
	}
}

// A context that ends stops the work, and leaves nothing.
func TestInterrupted(t *testing.T) {
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cache := newCache(t)
	cache.Progress = func(p Progress) {
		if p.Fraction > 0.5 {
			cancel(cause)
		}
	}
	if _, err := cache.Resolve(ctx, bigPackage(t, 64).write(t, t.TempDir())); !errors.Is(err, cause) || errors.Is(err, ErrInput) {
		t.Errorf("error is %v, want %v", err, cause)
	}
	if left, err := os.ReadDir(filepath.Join(cache.Dir, "kernels")); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

// Whoever waits for the lock can be stopped, too.
func TestLocked(t *testing.T) {
	cache := newCache(t)
	s, err := cache.open()
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := s.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	waited := false
	cache.Progress = func(p Progress) { waited = waited || strings.Contains(p.Step, "another process") }
	_, err = cache.Resolve(ctx, debianPackage(t, release, "6.1.192-2").write(t, t.TempDir()))
	if !errors.Is(err, context.DeadlineExceeded) || !waited {
		t.Errorf("error is %v, told: %v", err, waited)
	}
}

func TestCheck(t *testing.T) {
	k, err := newCache(t).Resolve(t.Context(), debianPackage(t, release, "6.1.192-2").write(t, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Check(LabFeatures()...); err != nil {
		t.Errorf("a whole kernel: %v", err)
	}
	var lacks *LackError
	err = k.Check(append(LabFeatures(), Feature{"dummy", "CONFIG_DUMMY"})...)
	if !errors.As(err, &lacks) || err.Error() != "kernel "+release+" lacks dummy: CONFIG_DUMMY is not set; use a kernel that has it" {
		t.Errorf("without an option: %v", err)
	}
	if err := os.Remove(filepath.Join(k.Modules, "kernel/net/ipv4/ipip.ko")); err != nil {
		t.Fatal(err)
	}
	if err := k.Check(LabFeatures()...); !errors.As(err, &lacks) || !strings.Contains(err.Error(), "ipip: CONFIG_NET_IPIP=m, but the module is not in") {
		t.Errorf("without a module: %v", err)
	}
	k.Config = ""
	if err := k.Check(LabFeatures()...); err != nil {
		t.Errorf("without a configuration: %v", err)
	}
}
