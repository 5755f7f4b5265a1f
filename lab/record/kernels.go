package record

import "time"

// KernelsSchema names the JSON form of Kernels.
const KernelsSchema = "pmtulab/kernels/v1"

// Kernels are the kernels that a guest can have.
type Kernels struct {
	Schema string `json:"schema"`
	// Kernels are sorted: User-Mode Linux last, older versions first.
	Kernels []Kernel `json:"kernels"`
	// Problems say which suites of the archive could not be read, or are out of
	// date.
	Problems []string `json:"problems,omitempty"`
}

// Kernel is one of them.
type Kernel struct {
	// Ref is the shortest reference to it: 6.12 for the newest of a series.
	Ref string `json:"ref"`
	// Version is the package's, Release the uname -r.
	Version string `json:"version,omitempty"`
	Release string `json:"release"`
	// UML tells User-Mode Linux.
	UML bool `json:"uml"`
	// Suites of the archive have it; none: it is only cached.
	Suites []string `json:"suites,omitempty"`
	// Download is how many bytes pulling it takes.
	Download int64 `json:"download_bytes,omitempty"`
	// Cached tells that it needs no pulling.
	Cached *CachedKernel `json:"cached,omitempty"`
}

// CachedKernel is a kernel on disk.
type CachedKernel struct {
	// SHA256 is the digest of its package, or of the digests of its packages.
	SHA256 string `json:"sha256"`
	// Source says which packages those are.
	Source string `json:"source"`
	// Dir holds vmlinuz and vmlinux, or linux.uml, and config and modules.
	Dir   string `json:"dir"`
	Bytes int64  `json:"bytes"`
	// Used is when it was last asked for.
	Used time.Time `json:"used"`
}
