package kernel

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab/wait"
)

// Cache is a directory of kernels. Several processes may use it at once: one
// at a time adds or removes, and a kernel is there as a whole or not at all.
// The zero value is the user's own cache.
type Cache struct {
	// Dir is the directory; default: DefaultDir.
	Dir string
	// Mirror is the address of a Debian mirror; default: what this system's
	// apt uses.
	Mirror string
	// Offline forbids the network: what is cached must do.
	Offline bool
	// Progress is told how far a step is, if not nil; from one goroutine at a
	// time.
	Progress func(Progress)
}

// Progress is how far a step of a pull is.
type Progress struct {
	// Step says what is done: "download linux-image-….deb, 34.7 MB".
	Step string
	// Fraction is the share of it that is done, 0 to 1.
	Fraction float64
}

// DefaultDir is the user's cache: pmtulab in $XDG_CACHE_HOME or ~/.cache.
func DefaultDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache of kernels: %w; set XDG_CACHE_HOME", err)
	}
	return filepath.Join(dir, "pmtulab"), nil
}

// store is an opened cache: its directories are
//
//	kernels/ID   a kernel from packages, ID their digest
//	images/ID    the ELF image of a bzImage from elsewhere, ID its digest
//	apt          the private state of apt, with the catalogue
//	downloads    packages on their way
type store struct {
	Cache
	apt apt
}

func (c *Cache) open() (*store, error) {
	s := &store{Cache: *c}
	if s.Dir == "" {
		dir, err := DefaultDir()
		if err != nil {
			return nil, err
		}
		s.Dir = dir
	}
	dir, err := filepath.Abs(s.Dir)
	if err != nil {
		return nil, fmt.Errorf("find the cache of kernels: %w", err)
	}
	s.Dir = dir
	s.apt = apt{dir: s.at("apt")}
	return s, nil
}

func (s *store) at(parts ...string) string {
	return filepath.Join(append([]string{s.Dir}, parts...)...)
}

func (s *store) progress(step string) func(fraction float64) {
	return func(fraction float64) {
		if s.Progress != nil {
			s.Progress(Progress{Step: step, Fraction: fraction})
		}
	}
}

// Resolve finds the kernel of a reference: one that is cached, the newest that
// fits, or else one pulled from the archive. See ParseRef.
func (c *Cache) Resolve(ctx context.Context, ref string) (Kernel, error) {
	return c.resolve(ctx, ref, false)
}

// Pull is Resolve, except that what is cached counts only when the archive has
// nothing newer.
func (c *Cache) Pull(ctx context.Context, ref string) (Kernel, error) {
	return c.resolve(ctx, ref, true)
}

func (c *Cache) resolve(ctx context.Context, ref string, newest bool) (Kernel, error) {
	r, err := ParseRef(ref)
	if err != nil {
		return Kernel{}, err
	}
	s, err := c.open()
	if err != nil {
		return Kernel{}, err
	}
	switch {
	case len(r.Debs) > 0:
		return s.resolveDebs(ctx, r)
	case r.isFile():
		return s.resolveFiles(ctx, r)
	}
	cached, err := s.list()
	if err != nil {
		return Kernel{}, err
	}
	builds := buildsOf(cached, func(c Cached) Build { return c.Build })
	at := r.newestOf(builds)
	switch {
	case at >= 0 && (!newest || s.Offline):
		return s.kernel(ctx, r, cached[at])
	case s.Offline:
		return Kernel{}, r.unknown("the cache in "+s.Dir, builds)
	}
	kernel, err := s.pull(ctx, r)
	var unknown *UnknownError
	if err != nil && len(cached) > 0 && !errors.As(err, &unknown) && ctx.Err() == nil {
		err = fmt.Errorf("%w (cached are: %s)", err, strings.Join(refsOf(builds), ", "))
	}
	return kernel, err
}

// buildsOf maps a slice to its builds.
func buildsOf[T any](items []T, build func(T) Build) []Build {
	var out []Build
	for _, item := range items {
		out = append(out, build(item))
	}
	return out
}

func refsOf(builds []Build) []string {
	var refs []string
	for _, b := range builds {
		refs = append(refs, b.Ref())
	}
	return slices.Compact(refs)
}

// pull gets the newest kernel that r means from the archive.
func (s *store) pull(ctx context.Context, r Ref) (Kernel, error) {
	var (
		catalogue Catalogue
		builds    []Build
		at        = -1
	)
	for _, age := range []time.Duration{maxAge, time.Hour} { // what is not found may be new
		var err error
		if catalogue, err = s.catalogue(ctx, age); err != nil {
			return Kernel{}, fmt.Errorf("kernel %s: %w", r, err)
		}
		builds = buildsOf(catalogue.Kernels, func(a Available) Build { return a.Build })
		if at = r.newestOf(builds); at >= 0 {
			break
		}
	}
	if at < 0 {
		err := r.unknown("the archive", builds)
		if unread := catalogue.unread(); unread != "" {
			err = fmt.Errorf("%w (%s)", err, unread)
		}
		return Kernel{}, err
	}
	a := catalogue.Kernels[at]
	cached, err := s.add(ctx, a.id(), func(dir string) (manifest, error) {
		packages := slices.Clone(a.Packages)
		for i, p := range packages {
			file, err := s.download(ctx, p)
			if err != nil {
				return manifest{}, err
			}
			packages[i].URI = file
		}
		m, err := unpack(ctx, dir, packages, s.progress("unpack "+a.Release))
		if err != nil {
			return m, err
		}
		m.Build, m.Packages = a.Build, a.Packages
		for _, p := range packages {
			err = errors.Join(err, os.Remove(p.URI))
		}
		return m, err
	})
	if err != nil {
		return Kernel{}, fmt.Errorf("kernel %s: %w", r, err)
	}
	return s.kernel(ctx, r, cached)
}

// download fetches a package of the archive to a file named after its digest,
// or goes on where an earlier download ended.
func (s *store) download(ctx context.Context, p Package) (string, error) {
	if err := os.MkdirAll(s.at("downloads"), 0o755); err != nil {
		return "", fmt.Errorf("download %s: %w", p.URI, err)
	}
	file := s.at("downloads", p.SHA256+".deb")
	step := fmt.Sprintf("download %s, %s", filepath.Base(p.URI), units.HumanSize(float64(p.Size)))
	part := exists(file)
	err := s.apt.download(ctx, p.URI, file, p.SHA256, s.progress(step))
	if err != nil && part && ctx.Err() == nil { // what was there may be no part of it
		if err := os.RemoveAll(file); err != nil {
			return "", fmt.Errorf("download %s: %w", p.URI, err)
		}
		err = s.apt.download(ctx, p.URI, file, p.SHA256, s.progress(step))
	}
	return file, err
}

// resolveDebs unpacks packages on disk, once.
func (s *store) resolveDebs(ctx context.Context, r Ref) (Kernel, error) {
	files := r.Debs
	if len(files) == 1 {
		files = siblings(files[0])
	}
	var packages []Package
	for _, file := range files {
		p, err := localPackage(file)
		if err != nil {
			return Kernel{}, fmt.Errorf("kernel %s: %w", r, err)
		}
		packages = append(packages, p)
	}
	cached, err := s.add(ctx, packagesID(packages), func(dir string) (manifest, error) {
		return unpack(ctx, dir, packages, s.progress("unpack "+packageNames(packages)))
	})
	if err != nil {
		return Kernel{}, fmt.Errorf("kernel %s: %w", r, err)
	}
	return s.kernel(ctx, r, cached)
}

func localPackage(file string) (Package, error) {
	path, err := filepath.Abs(file)
	if err != nil {
		return Package{}, fmt.Errorf("find %s: %w", file, err)
	}
	sum, size, err := digestFile(path)
	return Package{URI: path, Size: size, SHA256: sum}, err
}

// digestFile is the SHA-256 of a regular file, and its size.
func digestFile(file string) (sum string, size int64, err error) {
	f, err := os.Open(file)
	if err != nil {
		return "", 0, inputError{err}
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", 0, input("%s: not a regular file", file)
	}
	digest := sha256.New()
	if size, err = io.Copy(digest, f); err != nil {
		return "", 0, fmt.Errorf("read %s: %w", file, err)
	}
	return hex.EncodeToString(digest.Sum(nil)), size, nil
}

// add returns the kernel with that ID, and makes it when it is not there.
func (s *store) add(ctx context.Context, id string, make func(dir string) (manifest, error)) (Cached, error) {
	if cached, err := s.read(id); err == nil {
		return cached, nil
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return Cached{}, err
	}
	defer unlock()
	if cached, err := s.read(id); err == nil { // another process was first
		return cached, nil
	}
	err = s.build(s.at("kernels", id), func(dir string) error {
		m, err := make(dir)
		if err != nil {
			return err
		}
		b, err := json.MarshalIndent(m, "", "  ")
		if err != nil {
			return fmt.Errorf("describe kernel: %w", err)
		}
		return os.WriteFile(filepath.Join(dir, manifestFile), b, 0o644)
	})
	if err != nil {
		return Cached{}, err
	}
	return s.read(id)
}

// build makes a directory of the cache as a whole: fill gets a temporary one,
// which becomes dir when it succeeds and is removed otherwise. The caller
// holds the lock; what a killed process left is removed first.
func (s *store) build(dir string, fill func(dir string) error) error {
	temporary := dir + temporarySuffix
	if err := os.RemoveAll(temporary); err != nil {
		return fmt.Errorf("clear the cache: %w", err)
	}
	err := os.MkdirAll(temporary, 0o755)
	if err == nil {
		err = fill(temporary)
	}
	if err == nil {
		err = os.Rename(temporary, dir)
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		err = fmt.Errorf("%w; a kernel takes up to 250 MB in %s: make room with pmtulab kernels prune, or set XDG_CACHE_HOME to another file system", err, s.Dir)
	}
	return errors.Join(err, os.RemoveAll(temporary))
}

// temporarySuffix marks directories that are being made.
const temporarySuffix = ".tmp"

// lock makes this process the only one that adds to the cache or removes from
// it. The kernel releases the lock when the process ends, however it ends.
func (s *store) lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("lock the cache of kernels: %w", err)
	}
	f, err := os.OpenFile(s.at("lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock the cache of kernels: %w", err)
	}
	err = wait.Until(ctx, "the lock "+f.Name(), 50*time.Millisecond, func() error {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err != nil {
			s.progress("wait for another process that pulls or prunes kernels")(0)
		}
		return err //nolint:wrapcheck // the lock is named around it
	})
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil
}

// Cached is a kernel in the cache.
type Cached struct {
	Build
	// ID is the digest of its packages.
	ID       string    `json:"sha256"`
	Packages []Package `json:"packages"`
	// Bytes is its size on disk, Used when it was last resolved.
	Bytes int64     `json:"bytes"`
	Used  time.Time `json:"used"`
	noELF string
}

// Source says where the kernel came from.
func (c Cached) Source() string {
	var names []string
	for _, p := range c.Packages {
		if p.Suite == "" || strings.HasPrefix(p.Name, "linux-image-") || p.Name == "user-mode-linux" {
			names = append(names, p.String())
		}
	}
	return strings.Join(names, ", ")
}

// List lists the kernels in the cache: User-Mode Linux last, older versions
// first.
func (c *Cache) List() ([]Cached, error) {
	s, err := c.open()
	if err != nil {
		return nil, err
	}
	return s.list()
}

func (s *store) list() ([]Cached, error) {
	entries, err := os.ReadDir(s.at("kernels"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the cache of kernels: %w", err)
	}
	var out []Cached
	for _, e := range entries {
		// What cannot be read is half removed, or of another version.
		if c, err := s.read(e.Name()); err == nil && !strings.HasSuffix(e.Name(), temporarySuffix) {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b Cached) int {
		return cmp.Or(compareBuilds(a.Build, b.Build), a.Used.Compare(b.Used))
	})
	return out, nil
}

// read reads one kernel of the cache.
func (s *store) read(id string) (Cached, error) {
	file := s.at("kernels", id, manifestFile)
	b, err := os.ReadFile(file)
	if err != nil {
		return Cached{}, fmt.Errorf("read the cache of kernels: %w", err)
	}
	var m manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return Cached{}, fmt.Errorf("read %s: %w", file, err)
	}
	info, err := os.Stat(file)
	if err != nil {
		return Cached{}, fmt.Errorf("read the cache of kernels: %w", err)
	}
	return Cached{Build: m.Build, ID: id, Packages: m.Packages, Bytes: m.Bytes, Used: info.ModTime(), noELF: m.NoELF}, nil
}

// kernel is a kernel of the cache, ready to boot.
func (s *store) kernel(ctx context.Context, r Ref, c Cached) (Kernel, error) {
	touch(s.at("kernels", c.ID, manifestFile))
	k := Kernel{
		Build: c.Build, Ref: r.String(), Arch: arch, SHA256: c.ID, NoELF: c.noELF, Source: c.Source(),
		Image: s.at("kernels", c.ID, vmlinuzFile), Modules: s.at("kernels", c.ID, modulesDir),
	}
	if config := s.at("kernels", c.ID, configFile); exists(config) {
		k.Config = config
	}
	if c.UML {
		k.Image = s.at("kernels", c.ID, umlFile)
		return k, k.adapt(ctx, s.at("kernels", c.ID, libsDir))
	}
	if c.noELF == "" {
		k.ELF = s.at("kernels", c.ID, vmlinuxFile)
	}
	return k, nil
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
