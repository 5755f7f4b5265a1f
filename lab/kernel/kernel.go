// Package kernel finds the kernels that a guest can boot, and keeps them on
// disk: from the suites of the Debian archive, through an apt state of its own
// that any user can have; from packages of any distribution that packs .deb;
// from an image with a directory of modules; from a tree that a kernel build
// left.
//
// A kernel is asked for by a reference (see ParseRef) and comes back as a
// Kernel, plain data that says which files to boot. A cached kernel needs no
// network, no apt and no right to write.
package kernel

import (
	"fmt"
	"path"
	"strings"

	"pault.ag/go/debian/version"
)

// Build is one build of Linux.
type Build struct {
	// Release is its uname -r: 6.12.118+deb13-cloud-amd64.
	Release string `json:"release"`
	// Version is the package's: 6.12.118-1. Of User-Mode Linux, whose package
	// has a numbering of its own, it is the version of the kernel's source. A
	// kernel from no package has none.
	Version string `json:"version,omitempty"`
	// UML tells User-Mode Linux, a program, from a kernel for a machine.
	UML bool `json:"uml"`
}

// Kernel is a kernel on disk, ready to boot. Its files stay as they are until
// Prune removes them.
type Kernel struct {
	Build
	// Ref is the reference that it was asked for by.
	Ref string
	// Arch is Debian's name of the architecture; always amd64.
	Arch string
	// Image is the bzImage, or the linux.uml executable.
	Image string
	// ELF is the image decompressed, with the entry point through which QEMU
	// boots it directly (PVH); empty when there is none, for the reason NoELF.
	ELF   string
	NoELF string
	// Modules is the directory of its modules, in any depth.
	Modules string
	// Config is its build configuration; empty when that is not known.
	Config string
	// Libs is the directory of shared libraries that Image, a User-Mode Linux
	// of another release of Debian, needs in LD_LIBRARY_PATH; empty when those
	// of this system serve.
	Libs string
	// Source says where it came from: suite and package, or a path.
	Source string
	// SHA256 identifies its packages, or its image when it has none.
	SHA256 string
}

// arch is the only architecture of the laboratory.
const arch = "amd64"

// Series is the first two numbers of a version, by which stable kernels are
// called: 6.12.
func (b Build) Series() string {
	numbers := strings.SplitN(b.upstream(), ".", 3)
	return strings.Join(numbers[:min(2, len(numbers))], ".")
}

// Ref is the shortest reference to exactly this version: 6.12.118, or
// uml/6.1.176.
func (b Build) Ref() string { return b.prefix() + b.upstream() }

// SeriesRef is a reference to the newest of its series: 6.12, or uml/6.1.
func (b Build) SeriesRef() string { return b.prefix() + b.Series() }

func (b Build) prefix() string {
	if b.UML {
		return "uml/"
	}
	return ""
}

// upstream is the version without Debian's revision, or the numbers that
// Release starts with.
func (b Build) upstream() string {
	if v, err := version.Parse(b.Version); err == nil {
		return v.Version
	}
	end := strings.IndexFunc(b.Release, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if end < 0 {
		return b.Release
	}
	return b.Release[:end]
}

// is tells whether want, a version, a release or the first numbers of a
// version, means this build.
func (b Build) is(want string) bool {
	upstream := b.upstream()
	return want == b.Version || want == b.Release || want == upstream || strings.HasPrefix(upstream, want+".")
}

// compare orders builds by version, as dpkg does.
func (b Build) compare(other Build) int {
	parse := func(b Build) version.Version {
		v, err := version.Parse(b.Version)
		if err != nil {
			return version.Version{Version: b.upstream()}
		}
		return v
	}
	return version.Compare(parse(b), parse(other))
}

// Package is one .deb.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	// Suite is where the archive has it; empty for a file.
	Suite string `json:"suite,omitempty"`
	// URI is where it is downloaded from, or its path.
	URI    string `json:"uri"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

func (p Package) String() string {
	if p.Suite == "" {
		return path.Base(p.URI)
	}
	return fmt.Sprintf("%s %s of %s", p.Name, p.Version, p.Suite)
}
