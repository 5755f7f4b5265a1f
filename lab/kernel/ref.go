package kernel

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Ref is a parsed reference to a kernel: to one of the archive by UML and Want,
// or to files by Debs or Path.
type Ref struct {
	text string
	// UML asks for User-Mode Linux, Want for a version: the first numbers of
	// it, the whole of it, or a release. Without Want it is the newest.
	UML  bool
	Want string
	// Debs are packages on disk.
	Debs []string
	// Path is an image, with its modules in Modules or where distributions
	// have them, or a directory that holds both.
	Path, Modules string
}

func (r Ref) String() string { return r.text }

// isFile tells a reference to files from one to the archive.
func (r Ref) isFile() bool { return len(r.Debs) > 0 || r.Path != "" }

// ErrHost is the error of the reference host.
var ErrHost = errors.New("host is the kernel of this machine: it runs already, and needs no image")

// ParseRef parses a reference to a kernel:
//
//	6.12, 7                the newest of these numbers that the archive has
//	6.12.43, 6.12.43-1     this version; also a release, 6.1.0-56-cloud-amd64
//	newest                 the newest of all
//	uml, uml/5.10          User-Mode Linux: the newest, the newest of a series
//	DIR/a.deb              a package, with those beside it that belong to it
//	a.deb+b.deb            these packages
//	IMAGE,modules=DIR      a kernel image and the directory of its modules
//	DIR                    a directory that holds both
//
// What is not a version, newest, uml or .deb is a path; a directory that is named like
// a version needs a slash.
func ParseRef(text string) (Ref, error) {
	r := Ref{text: text}
	number := regexp.MustCompile(`^[0-9][A-Za-z0-9.+~_-]*$`)
	image, modules, hasModules := strings.Cut(text, ",modules=")
	switch uml, isUML := strings.CutPrefix(text, "uml/"); {
	case text == "":
		return r, input("kernel: the reference is empty; give a version such as 6.12, or a path")
	case text == "host":
		return r, input("kernel %s: %w", text, ErrHost)
	case hasModules:
		if image == "" || modules == "" {
			return r, input("kernel %s: must be IMAGE,modules=DIR", text)
		}
		r.Path, r.Modules = image, modules
	case strings.HasSuffix(text, ".deb"):
		// Names of packages have plus signs of their own.
		for part := range strings.SplitSeq(strings.ReplaceAll(text, ".deb+", ".deb\x00"), "\x00") {
			r.Debs = append(r.Debs, part)
		}
	case text == "newest":
	case text == "uml":
		r.UML = true
	case isUML && number.MatchString(uml):
		r.UML, r.Want = true, uml
	case !strings.Contains(text, "/") && number.MatchString(text):
		r.Want = text
	default:
		r.Path = filepath.Clean(text)
	}
	return r, nil
}

// means tells whether b is what the reference asks for.
func (r Ref) means(b Build) bool {
	return r.UML == b.UML && (r.Want == "" || b.is(r.Want))
}

// newestOf returns the index of the newest build that the reference means, or
// -1.
func (r Ref) newestOf(builds []Build) int {
	best := -1
	for i, b := range builds {
		if r.means(b) && (best < 0 || b.compare(builds[best]) >= 0) {
			best = i
		}
	}
	return best
}

// An UnknownError tells that no kernel is what a reference asks for.
type UnknownError struct {
	Ref Ref
	// Where says what was searched.
	Where string
	// Nearest are references that would do, the nearest versions first.
	Nearest []string
}

// Is tells that the error is ErrInput.
func (e *UnknownError) Is(target error) bool { return target == ErrInput }

func (e *UnknownError) Error() string {
	s := fmt.Sprintf("kernel %s: %s has none", e.Ref, e.Where)
	if len(e.Nearest) > 0 {
		s += "; nearest: " + strings.Join(e.Nearest, ", ")
	}
	return s
}

// unknown makes the error, with the nearest of the builds that exist: versions
// when the series exists, else series.
func (r Ref) unknown(where string, builds []Build) error {
	asked := Build{Release: r.Want, UML: r.UML}
	related := func(b Build) bool { return b.UML == r.UML && b.Series() == asked.Series() }
	ref := Build.Ref
	if !slices.ContainsFunc(builds, related) {
		related = func(b Build) bool { return b.UML == r.UML }
		ref = Build.SeriesRef
	}
	known := map[string]Build{}
	for _, b := range builds {
		if related(b) {
			known[ref(b)] = b
		}
	}
	refs := slices.SortedFunc(maps.Keys(known), func(a, b string) int { return known[a].compare(known[b]) })
	above := slices.IndexFunc(refs, func(ref string) bool { return known[ref].compare(asked) > 0 })
	if above < 0 {
		above = len(refs)
	}
	return &UnknownError{Ref: r, Where: where, Nearest: refs[max(0, above-2):min(len(refs), above+2)]}
}
