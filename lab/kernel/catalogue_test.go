package kernel

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// entry is a paragraph of an index of packages.
func entry(name, version, more string) string {
	return fmt.Sprintf("Package: %s\nVersion: %s\nSize: 1000\nFilename: pool/%s.deb\nSHA256: %064x\n%s\n", name, version, name, len(name)*1000+len(version), more)
}

var someIndex = strings.Join([]string{
	// One package with everything; its unsigned twin; a package that only leads to it.
	entry("linux-image-6.12.118+deb13-cloud-amd64", "6.12.118-1", "Depends: kmod, linux-base (>= 4.12~)\n"),
	entry("linux-image-6.12.118+deb13-cloud-amd64-unsigned", "6.12.118-1", "Depends: kmod\n"),
	entry("linux-image-cloud-amd64", "6.12.118-1", "Depends: linux-image-6.12.118+deb13-cloud-amd64 (= 6.12.118-1)\n"),
	entry("linux-image-6.12.118+deb13-amd64", "6.12.118-1", ""),
	// All in one, although it names a part that the archive no longer has.
	entry("linux-image-6.18.15+deb13-cloud-amd64", "6.18.15-1~bpo13+1", "Depends: linux-base-6.18.15+deb13-cloud-amd64 (= 6.18.15-1~bpo13+1)\n"),
	// Split, and whole.
	entry("linux-image-7.3.4+deb13-cloud-amd64", "7.3.4-1~bpo13+1", "Depends: dracut | x, linux-base-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1), linux-binary-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1), linux-modules-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1)\n"),
	entry("linux-base-7.3.4+deb13-cloud-amd64", "7.3.4-1~bpo13+1", ""),
	entry("linux-binary-7.3.4+deb13-cloud-amd64", "7.3.4-1~bpo13+1", ""),
	entry("linux-modules-7.3.4+deb13-cloud-amd64", "7.3.4-1~bpo13+1", ""),
	// Split, and its modules are gone.
	entry("linux-image-7.1.8+deb13-cloud-amd64", "7.1.8-1~bpo13+1", "Depends: linux-binary-7.1.8+deb13-cloud-amd64 (= 7.1.8-1~bpo13+1), linux-modules-7.1.8+deb13-cloud-amd64 (= 7.1.8-1~bpo13+1)\n"),
	entry("linux-binary-7.1.8+deb13-cloud-amd64", "7.1.8-1~bpo13+1", ""),
	entry("libc6", "2.41-12", ""), entry("libc6", "2.41-12+deb13u5", ""), entry("libc6", "2.41-9", ""),
	entry("user-mode-linux", "6.12um1+b22", "Built-Using: gcc-12 (= 12.2), linux (= 6.12.113-1)\n"),
	entry("bash", "5", ""),
}, "\n")

func TestReadIndex(t *testing.T) {
	kernels, err := readIndex(strings.NewReader(someIndex), index{suite: "trixie", uri: "http://mirror.example/debian"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, k := range mergeKernels(append(kernels, kernels[0])) {
		line := fmt.Sprintf("%s %s %s %v:", k.Ref(), k.Version, k.Release, k.Suites)
		for _, p := range k.Packages {
			line += " " + p.Name + " " + p.Version
		}
		got = append(got, line)
	}
	want := []string{
		"6.12.118 6.12.118-1 6.12.118+deb13-cloud-amd64 [trixie trixie]: linux-image-6.12.118+deb13-cloud-amd64 6.12.118-1",
		"6.18.15 6.18.15-1~bpo13+1 6.18.15+deb13-cloud-amd64 [trixie]: linux-image-6.18.15+deb13-cloud-amd64 6.18.15-1~bpo13+1",
		"7.3.4 7.3.4-1~bpo13+1 7.3.4+deb13-cloud-amd64 [trixie]: linux-image-7.3.4+deb13-cloud-amd64 7.3.4-1~bpo13+1" +
			" linux-base-7.3.4+deb13-cloud-amd64 7.3.4-1~bpo13+1 linux-binary-7.3.4+deb13-cloud-amd64 7.3.4-1~bpo13+1 linux-modules-7.3.4+deb13-cloud-amd64 7.3.4-1~bpo13+1",
		"uml/6.12.113 6.12.113-1 6.12.113 [trixie]: user-mode-linux 6.12um1+b22 libc6 2.41-12+deb13u5",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if size := kernels[2].Size(); size != 4000 {
		t.Errorf("size is %d, want 4000", size)
	}
	if uri := kernels[0].Packages[0].URI; uri != "http://mirror.example/debian/pool/linux-image-6.12.118+deb13-cloud-amd64.deb" {
		t.Errorf("URI is %s", uri)
	}
}

func TestReadIndexErrors(t *testing.T) {
	for want, text := range map[string]string{
		`has SHA256 "abc"`: "Package: libc6\nVersion: 1\nSize: 1\nSHA256: abc\n",
		`has size ""`:      "Package: libc6\nVersion: 1\n",
		`has version ""`:   fmt.Sprintf("Package: libc6\nSize: 1\nSHA256: %064x\n", 1),
		"has no field":     "Packages\n",
	} {
		if _, err := readIndex(strings.NewReader(text), index{suite: "sid"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want one with %s", err, want)
		}
	}
}

func TestParseURIs(t *testing.T) {
	const first = `'http://packages.example/apt/dists/cloud-sdk/InRelease' x 0
'https://mirror.example/debian/dists/bookworm/InRelease' x 0
'https://mirror.example/debian/dists/bookworm-updates/InRelease' x 0
'https://other.example/debian/dists/trixie/InRelease' x 0
'https://mirror.example/debian/dists/bookworm/main/binary-amd64/Packages.xz' x 0 `
	const security = `
'file:/srv/security/dists/bullseye/updates/InRelease' x 0
'file:/srv/security//dists/bookworm-security/InRelease' x 0 `
	for out, want := range map[string]mirror{
		"": {},
		"'http://archive.example/ubuntu/dists/noble/InRelease' x 0": {},
		first:            {"https://mirror.example/debian", "https://mirror.example/debian-security"},
		first + security: {"https://mirror.example/debian", "file:/srv/security"},
	} {
		if got := parseURIs(out); got != want {
			t.Errorf("%s\ngives %+v, want %+v", out, got, want)
		}
	}
}

func TestNewMirror(t *testing.T) {
	m, err := newMirror("http://mirror.example/debian/")
	if err != nil || m.of("sid") != "http://mirror.example/debian" || m.of("trixie-security") != "http://mirror.example/debian-security" {
		t.Errorf("%+v, %v", m, err)
	}
	for _, bad := range []string{"mirror.example", "ftp://mirror.example", "http://x [trusted=yes]", "http://x\ndeb y", "%"} {
		if _, err := newMirror(bad); !errors.Is(err, ErrInput) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestComplaintsAbout(t *testing.T) {
	complaints := []string{
		"E: The repository 'http://mirror.example/debian trixie-backports Release' does not have a Release file.",
		"W: Failed to fetch http://mirror.example/debian/dists/trixie/InRelease  Could not resolve",
		"E: Release file for http://mirror.example/debian/dists/sid/InRelease is expired (invalid since 19d)",
	}
	for suite, want := range map[string]string{
		"trixie":           "Failed to fetch http://mirror.example/debian/dists/trixie/InRelease  Could not resolve",
		"trixie-backports": "The repository 'http://mirror.example/debian trixie-backports Release' does not have a Release file.",
		"sid":              "Release file for http://mirror.example/debian/dists/sid/InRelease is expired (invalid since 19d)",
		"bookworm":         "",
	} {
		if got := complaintsAbout(suite, complaints); got != want {
			t.Errorf("%s: %q, want %q", suite, got, want)
		}
	}
}

func TestExpiry(t *testing.T) {
	dir := t.TempDir()
	index := filepath.Join(dir, "mirror_dists_sid_main_binary-amd64_Packages.xz")
	release := "Suite: unstable\nValid-Until: Fri, 06 Nov 2026 08:08:01 UTC\nSHA256:\n"
	if err := os.WriteFile(filepath.Join(dir, "mirror_dists_sid_InRelease"), []byte(release), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := expiry(index, time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)); !strings.Contains(got, "2026-11-06") {
		t.Errorf("expired: %q", got)
	}
	if got := expiry(index, time.Date(2026, 11, 5, 0, 0, 0, 0, time.UTC)); got != "" {
		t.Errorf("valid: %q", got)
	}
}

func FuzzReadIndex(f *testing.F) {
	f.Add(someIndex)
	f.Fuzz(func(t *testing.T, text string) {
		kernels, err := readIndex(strings.NewReader(text), index{suite: "sid", uri: "http://mirror.example"})
		for _, k := range mergeKernels(kernels) {
			if err == nil && (!validRelease(k.Release) || k.Size() <= 0 || k.Series() == "") {
				t.Errorf("kernel %+v", k)
			}
		}
	})
}
