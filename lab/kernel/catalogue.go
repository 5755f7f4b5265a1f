// The kernels that the archive has, read from the indexes of its suites.

package kernel

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"pault.ag/go/debian/version"
)

// Catalogue is what the archive has.
type Catalogue struct {
	// Read is when the lists were read.
	Read time.Time `json:"read"`
	// Mirror is where from.
	Mirror string  `json:"mirror"`
	Suites []Suite `json:"suites"`
	// Kernels are sorted: User-Mode Linux last, older versions first.
	Kernels []Available `json:"kernels"`
}

// Suite is how the reading of one suite went.
type Suite struct {
	Name string `json:"name"`
	// Problem says why it could not be read, or may be out of date; empty when
	// all is well. Kernels of a suite with a problem may be known all the same.
	Problem string `json:"problem,omitempty"`
}

// Available is a kernel that can be pulled.
type Available struct {
	Build
	// Suites have it in the same package; the first one is pulled from.
	Suites []string `json:"suites"`
	// Packages are all that make it complete.
	Packages []Package `json:"packages"`
}

// Size is how many bytes a pull downloads.
func (a Available) Size() int64 {
	var n int64
	for _, p := range a.Packages {
		n += p.Size
	}
	return n
}

// id is the name of the kernel in the cache.
func (a Available) id() string { return packagesID(a.Packages) }

// packagesID is a digest of the packages that a kernel was made of: that of
// the package itself when it is one.
func packagesID(packages []Package) string {
	var sums []string
	for _, p := range packages {
		sums = append(sums, p.SHA256)
	}
	slices.Sort(sums)
	if len(sums) == 1 {
		return sums[0]
	}
	sum := sha256.Sum256([]byte(strings.Join(sums, "\n")))
	return hex.EncodeToString(sum[:])
}

// maxAge is how long a catalogue serves.
const maxAge = 24 * time.Hour

// Catalogue reads what the archive has, from the network when the last time is
// more than a day ago or refresh says so. Suites that cannot be read are told
// of in it; the error is that none could.
func (c *Cache) Catalogue(ctx context.Context, refresh bool) (Catalogue, error) {
	s, err := c.open()
	if err != nil {
		return Catalogue{}, err
	}
	if refresh {
		return s.catalogue(ctx, 0)
	}
	return s.catalogue(ctx, maxAge)
}

func (s *store) catalogue(ctx context.Context, age time.Duration) (Catalogue, error) {
	serves := func(c Catalogue) bool {
		return s.Offline || time.Since(c.Read) < age && (s.Mirror == "" || c.Mirror == strings.TrimRight(s.Mirror, "/"))
	}
	if c, ok := s.apt.load(); ok && serves(c) {
		return c, nil
	}
	if s.Offline {
		return Catalogue{}, fmt.Errorf("no package lists in %s; read them with the network, or name a cached kernel", s.apt.dir)
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return Catalogue{}, err
	}
	defer unlock()
	old, hasOld := s.apt.load()
	if hasOld && serves(old) { // another process was first
		return old, nil
	}
	m, err := s.mirror(ctx)
	if err != nil {
		return Catalogue{}, err
	}
	if err := s.apt.prepare(m); err != nil {
		return Catalogue{}, err
	}
	complaints, err := s.apt.update(ctx, s.progress("read package lists"))
	if err != nil {
		return Catalogue{}, err
	}
	c, err := s.apt.readCatalogue(ctx, m, complaints)
	if err != nil {
		return Catalogue{}, err
	}
	if len(c.Kernels) == 0 {
		return c, fmt.Errorf("read package lists of %s: no suite could be read: %s", m.main, c.unread())
	}
	if hasOld && !slices.ContainsFunc(c.Suites, func(s Suite) bool { return s.Problem == "" }) {
		c.Read = old.Read // what apt has is what it had
	}
	return c, s.apt.save(c)
}

// mirror is where to read from.
func (s *store) mirror(ctx context.Context) (mirror, error) {
	if s.Mirror != "" {
		return newMirror(s.Mirror)
	}
	return s.apt.systemMirror(ctx)
}

// unread says which suites could not be read, and why.
func (c Catalogue) unread() string {
	var out []string
	for _, suite := range c.Suites {
		known := slices.ContainsFunc(c.Kernels, func(a Available) bool { return slices.Contains(a.Suites, suite.Name) })
		if suite.Problem != "" && !known {
			out = append(out, suite.Name+": "+suite.Problem)
		}
	}
	return strings.Join(out, "; ")
}

// readCatalogue reads the indexes that apt has on disk, and says of each suite
// that has none what apt complained of.
func (a apt) readCatalogue(ctx context.Context, m mirror, complaints []string) (Catalogue, error) {
	c := Catalogue{Read: time.Now().UTC(), Mirror: m.main}
	indexes, err := a.indexes(ctx)
	if err != nil {
		return c, err
	}
	var (
		wait    sync.WaitGroup
		kernels = make([][]Available, len(suites()))
	)
	c.Suites = make([]Suite, len(suites()))
	for i, name := range suites() {
		c.Suites[i] = Suite{Name: name, Problem: complaintsAbout(name, complaints)}
		at := slices.IndexFunc(indexes, func(x index) bool { return x.suite == name })
		if at < 0 {
			if c.Suites[i].Problem == "" {
				c.Suites[i].Problem = cmp.Or(strings.Join(complaints, "; "), "apt has no list of it")
			}
			continue
		}
		wait.Go(func() {
			err := a.read(ctx, indexes[at], func(r io.Reader) (err error) {
				kernels[i], err = readIndex(r, indexes[at])
				return err
			})
			if err != nil {
				c.Suites[i].Problem = err.Error()
			} else if expired := expiry(indexes[at].file, c.Read); c.Suites[i].Problem == "" {
				c.Suites[i].Problem = expired
			}
		})
	}
	wait.Wait()
	if ctx.Err() != nil {
		return c, fmt.Errorf("read package lists: %w", context.Cause(ctx))
	}
	c.Kernels = mergeKernels(slices.Concat(kernels...))
	return c, nil
}

// expiry says when the Release file of an index is older than it says it may
// be used. Whether apt accepts that is for the system's configuration; it is
// told in either case.
func expiry(index string, now time.Time) string {
	stem, _, _ := strings.Cut(filepath.Base(index), "_main_")
	for _, name := range []string{"_InRelease", "_Release"} {
		f, err := os.Open(filepath.Join(filepath.Dir(index), stem+name))
		if err != nil {
			continue
		}
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan() && s.Text() != "SHA256:"; {
			text, ok := strings.CutPrefix(s.Text(), "Valid-Until: ")
			if !ok {
				continue
			}
			if until, err := time.Parse(time.RFC1123, text); err == nil && until.Before(now) {
				return fmt.Sprintf("the mirror's copy expired on %s; newer kernels may exist", until.Format(time.DateOnly))
			}
		}
	}
	return ""
}

// flavour is the build of Debian's kernel for virtual machines, a third of the
// size of the general one.
const flavour = "-cloud-" + arch

// readIndex finds the kernels of one suite.
func readIndex(r io.Reader, from index) ([]Available, error) {
	var (
		images, umls []map[string]string
		parts        = map[string]Package{} // by name and version
		libc         *Package
		bad          []error
	)
	wanted := func(name string) bool {
		return name == "user-mode-linux" || name == "libc6" ||
			strings.HasPrefix(name, "linux-") && strings.HasSuffix(name, flavour)
	}
	err := readParagraphs(r, wanted, func(fields map[string]string) {
		p, err := indexPackage(fields, from)
		if err != nil {
			bad = append(bad, err)
			return
		}
		switch {
		case p.Name == "libc6":
			if libc == nil || newer(p.Version, libc.Version) {
				libc = &p
			}
		case p.Name == "user-mode-linux":
			umls = append(umls, fields)
		case strings.HasPrefix(p.Name, "linux-image-"):
			images = append(images, fields)
		}
		parts[p.Name+" "+p.Version] = p
	})
	if err := errors.Join(append(bad, err)...); err != nil {
		return nil, fmt.Errorf("read list of %s: %w", from.suite, err)
	}
	var out []Available
	for _, fields := range images {
		if a, ok := packaged(fields, parts); ok {
			a.Suites = []string{from.suite}
			out = append(out, a)
		}
	}
	for _, fields := range umls {
		release, source, ok := builtUsing(fields["Built-Using"])
		if !ok {
			continue
		}
		a := Available{
			Build:    Build{Release: release, Version: source, UML: true},
			Suites:   []string{from.suite},
			Packages: []Package{parts[fields["Package"]+" "+fields["Version"]]},
		}
		if libc != nil {
			a.Packages = append(a.Packages, *libc)
		}
		out = append(out, a)
	}
	return out, nil
}

func newer(a, b string) bool {
	return Build{Version: a}.compare(Build{Version: b}) > 0
}

// indexPackage checks what an index says of a package.
func indexPackage(fields map[string]string, from index) (Package, error) {
	p := Package{
		Name: fields["Package"], Version: fields["Version"], Suite: from.suite,
		URI: from.uri + "/" + fields["Filename"], SHA256: strings.ToLower(fields["SHA256"]),
	}
	var err error
	if p.Size, err = strconv.ParseInt(fields["Size"], 10, 64); err != nil || p.Size <= 0 {
		return p, fmt.Errorf("%s has size %q", p.Name, fields["Size"])
	}
	if sum, err := hex.DecodeString(p.SHA256); err != nil || len(sum) != sha256.Size {
		return p, fmt.Errorf("%s has SHA256 %q", p.Name, p.SHA256)
	}
	if _, err := version.Parse(p.Version); err != nil {
		return p, fmt.Errorf("%s has version %q", p.Name, p.Version)
	}
	return p, nil
}

// packaged is the kernel of a package linux-image-RELEASE, with the packages
// for the same release that it depends on. Before Linux 6.19 it holds all
// itself; later ones hold nothing, and are of no use once the archive has
// removed their linux-modules-RELEASE. Packages that only lead to another
// image are none.
func packaged(fields map[string]string, parts map[string]Package) (Available, bool) {
	name := fields["Package"]
	a := Available{
		Build:    Build{Release: strings.TrimPrefix(name, "linux-image-"), Version: fields["Version"]},
		Packages: []Package{parts[name+" "+fields["Version"]]},
	}
	split := strings.Contains(fields["Depends"], "linux-modules-"+a.Release)
	for dependency := range strings.SplitSeq(fields["Depends"], ",") {
		words := strings.Fields(dependency)
		if len(words) == 0 {
			continue
		}
		if strings.HasPrefix(words[0], "linux-image-") {
			return a, false
		}
		if !strings.HasSuffix(words[0], "-"+a.Release) {
			continue
		}
		part, ok := parts[words[0]+" "+fields["Version"]]
		switch {
		case ok:
			a.Packages = append(a.Packages, part)
		case split:
			return a, false
		}
	}
	return a, validRelease(a.Release)
}

// builtUsing finds the kernel in the Built-Using field of a User-Mode Linux:
// "linux (= 6.1.176-1)".
func builtUsing(field string) (release, source string, ok bool) {
	for entry := range strings.SplitSeq(field, ",") {
		words := strings.Fields(strings.Trim(entry, " )"))
		if len(words) == 3 && words[0] == "linux" && words[1] == "(=" {
			release, _, _ = strings.Cut(words[2], "-")
			return release, words[2], validRelease(release)
		}
	}
	return "", "", false
}

// mergeKernels sorts kernels and makes one of those that several suites have.
func mergeKernels(kernels []Available) []Available {
	slices.SortStableFunc(kernels, func(a, b Available) int { return compareBuilds(a.Build, b.Build) })
	var out []Available
	for _, k := range kernels {
		same := slices.IndexFunc(out, func(o Available) bool { return o.Packages[0].SHA256 == k.Packages[0].SHA256 })
		if same >= 0 {
			out[same].Suites = append(out[same].Suites, k.Suites...)
			continue
		}
		out = append(out, k)
	}
	return out
}

// compareBuilds puts User-Mode Linux last, and older versions first.
func compareBuilds(a, b Build) int {
	if a.UML != b.UML {
		if a.UML {
			return 1
		}
		return -1
	}
	return a.compare(b)
}

// catalogueFile is where the catalogue is kept between runs.
func (a apt) catalogueFile() string { return filepath.Join(a.dir, "catalogue.json") }

// load reads the catalogue of an earlier run; ok is false when there is none
// that this version of the program can read.
func (a apt) load() (c Catalogue, ok bool) {
	b, err := os.ReadFile(a.catalogueFile())
	if err != nil || json.Unmarshal(b, &c) != nil {
		return Catalogue{}, false
	}
	return c, true
}

func (a apt) save(c Catalogue) error {
	b, err := json.Marshal(c)
	if err == nil {
		err = replaceFile(a.catalogueFile(), b, 0o644)
	}
	if err != nil {
		return fmt.Errorf("keep catalogue: %w", err)
	}
	return nil
}

// replaceFile writes a file as a whole or not at all.
func replaceFile(file string, content []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".tmp-*")
	if err != nil {
		return err //nolint:wrapcheck // the caller says what it was writing
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
