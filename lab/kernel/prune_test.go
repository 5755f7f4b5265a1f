package kernel

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pmtulab/pmtulab/lab/record"
)

// fill makes a cache with three kernels, used one, two and three days ago, an
// ELF image of four days ago, and what killed processes leave.
func fill(t *testing.T) *Cache {
	t.Helper()
	cache := newCache(t)
	s, err := cache.open()
	if err != nil {
		t.Fatal(err)
	}
	ago := func(path string, days int) {
		at := time.Now().Add(-time.Duration(days) * 24 * time.Hour)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	for i, series := range []string{"6.1", "6.12", "7.3"} {
		release := series + ".9-cloud-amd64"
		k, err := cache.Resolve(t.Context(), debianPackage(t, release, series+".9-1").write(t, t.TempDir()))
		if err != nil {
			t.Fatal(err)
		}
		ago(filepath.Join(filepath.Dir(k.Image), manifestFile), i+1)
	}
	dir := tree(t, map[string]string{"vmlinuz": imageOf(t, "6.8.0"), "a.ko": module("6.8.0")})
	k, err := cache.Resolve(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	ago(filepath.Dir(k.ELF), 4)
	writeFile(t, s.at("kernels", "0123"+temporarySuffix, "vmlinuz"), "12345")
	writeFile(t, s.at("images", "4567"+temporarySuffix, "vmlinux"), "12345")
	writeFile(t, s.at("downloads", "89ab.deb"), "12345")
	return cache
}

func TestPrune(t *testing.T) {
	const garbage = "unfinished kernel, unfinished kernel, unfinished download"
	for name, tt := range map[string]struct {
		options PruneOptions
		want    string // beside garbage
		left    string
	}{
		"no limits":   {PruneOptions{Max: -1}, "", "6.1.9 6.12.9 7.3.9"},
		"age":         {PruneOptions{Max: -1, Older: 60 * time.Hour}, "kernel 7.3.9, ELF image", "6.1.9 6.12.9"},
		"size":        {PruneOptions{Max: 30_000}, "kernel 7.3.9, ELF image", "6.1.9 6.12.9"},
		"both":        {PruneOptions{Max: 30_000, Older: 36 * time.Hour}, "kernel 6.12.9, kernel 7.3.9, ELF image", "6.1.9"},
		"all":         {PruneOptions{Max: 0}, "kernel 6.1.9, kernel 6.12.9, kernel 7.3.9, ELF image", ""},
		"only say it": {PruneOptions{Max: 0, DryRun: true}, "kernel 6.1.9, kernel 6.12.9, kernel 7.3.9, ELF image", "6.1.9 6.12.9 7.3.9"},
	} {
		t.Run(name, func(t *testing.T) {
			cache := fill(t)
			removed, err := cache.Prune(t.Context(), tt.options)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range removed {
				what, _, _ := strings.Cut(r.What, "image ")
				got = append(got, strings.TrimSpace(what+map[bool]string{true: "image"}[strings.Contains(r.What, "image")]))
				if r.Bytes < 5 {
					t.Errorf("%s has %d bytes", r.What, r.Bytes)
				}
				if _, err := os.Stat(r.Path); (err == nil) != tt.options.DryRun {
					t.Errorf("%s: %v", r.Path, err)
				}
			}
			want := strings.TrimSuffix(garbage+", "+tt.want, ", ")
			if strings.Join(got, ", ") != want {
				t.Errorf("removed %q, want %s", got, want)
			}
			cached, err := cache.List()
			if err != nil {
				t.Fatal(err)
			}
			if left := strings.Join(refsOf(buildsOf(cached, func(c Cached) Build { return c.Build })), " "); left != tt.left {
				t.Errorf("left are %s, want %s", left, tt.left)
			}
			if again, err := cache.Prune(t.Context(), PruneOptions{Max: -1}); err != nil || len(again) > 0 != tt.options.DryRun {
				t.Errorf("a second time: %v, %v", again, err)
			}
		})
	}
}

func TestPruneNothing(t *testing.T) {
	cache := newCache(t)
	if removed, err := cache.Prune(t.Context(), PruneOptions{}); err != nil || len(removed) > 0 {
		t.Errorf("%v, %v", removed, err)
	}
	if _, err := os.Stat(cache.Dir); err == nil {
		t.Error("the cache was made to be pruned")
	}
}

// A survey shows what is cached beside the newest of each series, under the
// reference that leads there.
func TestSurvey(t *testing.T) {
	cache := newCache(t)
	cache.Offline = true
	available := func(version string) Available {
		return Available{
			Build: Build{Release: version + "-cloud-amd64", Version: version}, Suites: []string{"trixie"},
			Packages: []Package{{Name: "linux-image", Version: version, Suite: "trixie", Size: 1000, SHA256: version}},
		}
	}
	if _, err := cache.Resolve(t.Context(), debianPackage(t, "6.12.50-cloud-amd64", "6.12.50-1").write(t, t.TempDir())); err != nil {
		t.Fatal(err)
	}
	refs := func(o SurveyOptions) (out []string) {
		t.Helper()
		kernels, err := cache.Survey(t.Context(), o)
		if err != nil || kernels.Schema != record.KernelsSchema {
			t.Fatal(err)
		}
		for _, k := range kernels.Kernels {
			row := k.Ref + " " + k.Version
			if k.Cached != nil {
				row += " cached"
			}
			if k.Download > 0 {
				row += " " + strings.Join(k.Suites, " ")
			}
			out = append(out, row)
		}
		return append(out, kernels.Problems...)
	}
	if diff := cmp.Diff([]string{"6.12 6.12.50-1 cached"}, refs(SurveyOptions{})); diff != "" {
		t.Errorf("without lists: %s", diff)
	}
	s, err := cache.open()
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, s.apt.catalogueFile(), "{")
	if err := s.apt.save(Catalogue{
		Suites:  []Suite{{Name: "trixie"}, {Name: "sid", Problem: "it expired"}},
		Kernels: []Available{available("6.1.9-1"), available("6.12.40-1"), available("6.12.57-1~bpo12+1"), available("6.12.57-1")},
	}); err != nil {
		t.Fatal(err)
	}
	want := []string{"6.1 6.1.9-1 trixie", "6.12.50 6.12.50-1 cached", "6.12 6.12.57-1 trixie", "sid: it expired"}
	if diff := cmp.Diff(want, refs(SurveyOptions{})); diff != "" {
		t.Errorf("newest: %s", diff)
	}
	want = []string{
		"6.1 6.1.9-1 trixie", "6.12.40 6.12.40-1 trixie", "6.12.50 6.12.50-1 cached",
		"6.12.57-1~bpo12+1 6.12.57-1~bpo12+1 trixie", "6.12 6.12.57-1 trixie", "sid: it expired",
	}
	if diff := cmp.Diff(want, refs(SurveyOptions{All: true})); diff != "" {
		t.Errorf("all: %s", diff)
	}
}
