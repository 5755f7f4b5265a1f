// A cpio archive in the "newc" form, the only one that the kernel unpacks as
// an initramfs (Documentation/driver-api/early-userspace/buffer-format.rst).
// The bytes depend on nothing but the calls: inode numbers count up, owner is
// root, modification times are zero.

package guest

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// File types of a cpio mode (stat(2)).
const (
	modeDir     = 0o040000
	modeRegular = 0o100000
	modeSymlink = 0o120000
	modeChar    = 0o020000
)

// archive writes a newc archive. The first error sticks and is returned by
// close. Directories on the way to an entry are made when they are missing.
type archive struct {
	w    io.Writer
	n    int64
	ino  uint32
	made map[string]bool
	err  error
}

func newArchive(w io.Writer) *archive {
	return &archive{w: w, made: map[string]bool{".": true, "": true}}
}

// has tells whether an entry of that name was written.
func (a *archive) has(name string) bool { return a.made[clean(name)] }

func (a *archive) dir(name string, perm fs.FileMode) {
	name = clean(name)
	if a.made[name] {
		return
	}
	a.entry(name, modeDir|uint32(perm.Perm()), 0, 0, 0)
}

func (a *archive) symlink(name, target string) {
	a.entry(name, modeSymlink|0o777, int64(len(target)), 0, 0)
	a.write([]byte(target))
	a.pad()
}

func (a *archive) char(name string, perm fs.FileMode, major, minor uint32) {
	a.entry(name, modeChar|uint32(perm.Perm()), 0, major, minor)
}

func (a *archive) bytes(name string, perm fs.FileMode, data []byte) {
	a.entry(name, modeRegular|uint32(perm.Perm()), int64(len(data)), 0, 0)
	a.write(data)
	a.pad()
}

// file copies size bytes of r.
func (a *archive) file(name string, perm fs.FileMode, size int64, r io.Reader) {
	if size > 0xffffffff {
		a.fail(fmt.Errorf("archive %s: %d bytes exceed the 4 GiB of a newc archive", name, size))
		return
	}
	a.entry(name, modeRegular|uint32(perm.Perm()), size, 0, 0)
	if a.err != nil {
		return
	}
	n, err := io.CopyN(a.w, r, size)
	a.n += n
	if err != nil {
		a.fail(fmt.Errorf("archive %s: %w", name, err))
	}
	a.pad()
}

// close writes the trailer and returns the first error of all calls.
func (a *archive) close() error {
	a.header("TRAILER!!!", 0, 0, 0, 0)
	return a.err
}

// entry writes a header, after those of missing parent directories.
func (a *archive) entry(name string, mode uint32, size int64, major, minor uint32) {
	name = clean(name)
	if parent := path.Dir(name); !a.made[parent] {
		a.dir(parent, 0o755)
	}
	if a.made[name] {
		a.fail(fmt.Errorf("archive %s: it is there already", name))
		return
	}
	a.made[name] = true
	a.header(name, mode, size, major, minor)
}

func (a *archive) header(name string, mode uint32, size int64, major, minor uint32) {
	a.ino++
	links := 1
	if mode&modeDir != 0 && mode&modeRegular == 0 {
		links = 2
	}
	a.write(fmt.Appendf(nil, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		a.ino, mode, 0, 0, links, 0, size, 0, 0, major, minor, len(name)+1, 0, name))
	a.pad()
}

func (a *archive) pad() { a.write(make([]byte, -a.n&3)) }

func (a *archive) write(b []byte) {
	if a.err != nil || len(b) == 0 {
		return
	}
	n, err := a.w.Write(b)
	a.n += int64(n)
	if err != nil {
		a.fail(fmt.Errorf("write archive: %w", err))
	}
}

func (a *archive) fail(err error) {
	if a.err == nil {
		a.err = err
	}
}

// clean turns a guest path into an archive name: no leading slash, no dots.
func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }
