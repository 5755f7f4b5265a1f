package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// PruneOptions says what may stay in the cache.
type PruneOptions struct {
	// Older removes what was not used for this long; 0 is no limit of age.
	Older time.Duration
	// Max bounds the size of what stays, in bytes; what was used least
	// recently goes first. Negative is no limit of size.
	Max int64
	// DryRun removes nothing.
	DryRun bool
}

// Removed is what Prune removed.
type Removed struct {
	// What names it for people, Path is where it was.
	What  string    `json:"what"`
	Path  string    `json:"path"`
	Bytes int64     `json:"bytes"`
	Used  time.Time `json:"used"`
}

// Prune removes from the cache what killed processes left, then what
// exceeds the limits: kernels, ELF images and package lists alike. A guest
// that boots a kernel in this moment may miss its files; one that runs does
// not.
func (c *Cache) Prune(ctx context.Context, o PruneOptions) ([]Removed, error) {
	s, err := c.open()
	if err != nil {
		return nil, err
	}
	if !exists(s.Dir) {
		return nil, nil
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	garbage, items, err := s.contents()
	if err != nil {
		return nil, err
	}
	slices.SortFunc(items, func(a, b Removed) int { return b.Used.Compare(a.Used) })
	var (
		total  int64
		full   bool
		remove = garbage
		errs   []error
	)
	for _, item := range items {
		full = full || o.Max >= 0 && total+item.Bytes > o.Max
		if full || o.Older > 0 && time.Since(item.Used) > o.Older {
			remove = append(remove, item)
		} else {
			total += item.Bytes
		}
	}
	for _, item := range remove {
		if !o.DryRun {
			errs = append(errs, s.remove(item.Path))
		}
	}
	return remove, errors.Join(errs...)
}

// remove makes a directory of the cache vanish at once, then removes it.
func (s *store) remove(path string) error {
	gone := path + temporarySuffix
	err := os.Rename(path, gone)
	if errors.Is(err, fs.ErrExist) { // it is itself left over
		gone, err = path, nil
	}
	if err == nil {
		err = os.RemoveAll(gone)
	}
	if err != nil {
		return fmt.Errorf("remove from the cache of kernels: %w", err)
	}
	return nil
}

// contents lists what is in the cache: what no process will need again, and
// what is whole.
func (s *store) contents() (garbage, whole []Removed, err error) {
	kernels, err := s.list()
	if err != nil {
		return nil, nil, err
	}
	for _, k := range kernels {
		whole = append(whole, Removed{What: "kernel " + k.Ref(), Path: s.at("kernels", k.ID), Used: k.Used})
	}
	known := func(path string) bool {
		return slices.ContainsFunc(whole, func(r Removed) bool { return r.Path == path })
	}
	for _, kind := range []string{"kernels", "images", "downloads"} {
		entries, err := os.ReadDir(s.at(kind))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf("list the cache of kernels: %w", err)
		}
		for _, e := range entries {
			item := Removed{Path: s.at(kind, e.Name())}
			if info, err := e.Info(); err == nil {
				item.Used = info.ModTime()
			}
			switch {
			case known(item.Path):
			case kind == "images" && !strings.HasSuffix(e.Name(), temporarySuffix):
				item.What = "ELF image " + e.Name()[:min(12, len(e.Name()))]
				whole = append(whole, item)
			case kind == "downloads":
				item.What = "unfinished download"
				garbage = append(garbage, item)
			default:
				item.What = "unfinished kernel"
				garbage = append(garbage, item)
			}
		}
	}
	if info, err := os.Stat(s.apt.catalogueFile()); err == nil {
		whole = append(whole, Removed{What: "package lists", Path: s.apt.dir, Used: info.ModTime()})
	}
	for _, items := range [][]Removed{garbage, whole} {
		for i := range items {
			items[i].Bytes = diskUse(items[i].Path)
		}
	}
	return garbage, whole, nil
}

// diskUse is the size of the files below path; what cannot be read counts
// nothing.
func diskUse(path string) int64 {
	var n int64
	_ = filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // see above
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			n += info.Size()
		}
		return nil
	})
	return n
}

// touch marks a file or directory of the cache as used now. Of a cache that
// one may only read, the time stays.
func touch(path string) {
	now := time.Now()
	_ = os.Chtimes(path, now, now)
}
