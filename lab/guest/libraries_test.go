package guest

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestLibraries(t *testing.T) {
	root := t.TempDir()
	put := func(path string, b []byte) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	lib := func(needed ...string) []byte { return elfFile{needed: append(needed, "libc.so.6")}.bytes(t) }
	other := lib()
	other[18] = 183 // e_machine: AArch64
	put("/etc/ld.so.conf", []byte("include /etc/ld.so.conf.d/*.conf\n"))
	put("/etc/ld.so.conf.d/x.conf", []byte("# comment\n/opt/lib # more\n"))
	put("/lib64/ld-linux-x86-64.so.2", elfFile{modinfo: "x"}.bytes(t))
	put("/lib/x86_64-linux-gnu/libc.so.6", elfFile{modinfo: "x"}.bytes(t))
	put("/opt/lib/liba.so", lib("libb.so"))
	put("/app/lib/libb.so", lib())
	put("/usr/lib/libb.so", lib("liba.so"))
	put("/opt/lib/libforeign.so", other)
	put("/usr/lib/libforeign.so", lib())
	put("/app/bin/runpath", elfFile{interp: "/lib64/ld-linux-x86-64.so.2", needed: []string{"libb.so"}, runpath: "$ORIGIN/../lib:/x"}.bytes(t))
	put("/app/bin/plain", elfFile{interp: "/lib64/ld-linux-x86-64.so.2", needed: []string{"liba.so", "libforeign.so"}}.bytes(t))
	put("/app/bin/missing", elfFile{needed: []string{"libnone.so"}}.bytes(t))
	put("/app/bin/nointerp", elfFile{interp: "/lib64/none", needed: []string{"libb.so"}}.bytes(t))
	put("/app/bin/static", elfFile{modinfo: "x"}.bytes(t))
	put("/app/bin/script", []byte("#!/bin/sh\n"))
	put("/app/bin/empty", nil)

	l := newLibraries(root)
	const ld, libc = "/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6"
	for program, want := range map[string][]string{
		"runpath": {ld, "/app/lib/libb.so", libc},
		"plain":   {ld, "/opt/lib/liba.so", "/usr/lib/libforeign.so", "/usr/lib/libb.so", libc},
		"static":  nil, "script": nil, "empty": nil,
	} {
		got, err := l.closure("/app/bin/" + program)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v; want %q", program, got, err, want)
		}
	}
	_, err := l.closure("/app/bin/missing")
	var missing *LibraryError
	if !errors.As(err, &missing) || missing.Library != "libnone.so" || !slices.Contains(missing.Searched, "/opt/lib") {
		t.Errorf("error is %v, want a LibraryError of libnone.so", err)
	}
	if _, err := l.closure("/app/bin/nointerp"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing interpreter: %v", err)
	}
}

func TestScriptInterpreter(t *testing.T) {
	for content, want := range map[string]string{
		"#!/bin/sh\necho": "/bin/sh", "#! /usr/bin/env  python\n": "/usr/bin/env", "#!": "", "#!\n/bin/sh": "", "": "", "\x7fELF": "",
	} {
		file := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(file, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
		if got, err := scriptInterpreter(file); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", content, got, err, want)
		}
	}
}

func FuzzParseLdConf(f *testing.F) {
	f.Add("include a*.conf\n/usr/lib:/x,/y # comment\nhwcap 1 nosegneg\nrelative\n")
	f.Fuzz(func(t *testing.T, s string) {
		dirs, _ := parseLdConf(strings.NewReader(s))
		for _, dir := range dirs {
			if !filepath.IsAbs(dir) {
				t.Errorf("%q is not absolute", dir)
			}
		}
	})
}

func FuzzReadNeeds(f *testing.F) {
	f.Add(elfFile{interp: "/ld.so", needed: []string{"libc.so"}, runpath: "/x"}.bytes(f))
	file := filepath.Join(f.TempDir(), "elf")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
		_, _ = readNeeds(file)
	})
}
