package kernel

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// file is an entry of a package that a test makes.
type file struct {
	name, content string
	link          string // target of a symbolic link
}

// pkg is a package that a test makes.
type pkg struct {
	name, version, arch string // default: amd64
	compression         string // xz, zst, gz or none; default: xz
	files               []file
}

func (p pkg) bytes(t testing.TB) []byte {
	t.Helper()
	if p.arch == "" {
		p.arch = "amd64"
	}
	if p.compression == "" {
		p.compression = "xz"
	}
	suffix := "." + p.compression
	if p.compression == "none" {
		suffix = ""
	}
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\nDescription: a test\n of packages\n", p.name, p.version, p.arch)
	var out bytes.Buffer
	out.WriteString(arMagic)
	for _, member := range []struct {
		name string
		data []byte
	}{
		{"debian-binary", []byte("2.0\n")},
		{"control.tar" + suffix, compress(t, p.compression, tarOf(t, []file{{name: "./control", content: control}}))},
		{"data.tar" + suffix, compress(t, p.compression, tarOf(t, p.files))},
	} {
		fmt.Fprintf(&out, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", member.name, 0, 0, 0, 0o100644, len(member.data))
		out.Write(member.data)
		if len(member.data)%2 == 1 {
			out.WriteByte('\n')
		}
	}
	return out.Bytes()
}

// write writes the package into dir under its usual name.
func (p pkg) write(t testing.TB, dir string) string {
	t.Helper()
	path := filepath.Join(dir, fmt.Sprintf("%s_%s_amd64.deb", p.name, p.version))
	writeFile(t, path, string(p.bytes(t)))
	return path
}

func writeFile(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
}

func tarOf(t testing.TB, files []file) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.content)), Typeflag: tar.TypeReg}
		if f.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.link
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func compress(t testing.TB, format string, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch format {
	case "none":
		return data
	case "gz":
		w = gzip.NewWriter(&out)
	case "xz":
		w, err = xz.NewWriter(&out)
	case "zst":
		w, err = zstd.NewWriter(&out)
	case "lzma":
		w, err = lzma.NewWriter(&out)
	case "lz4":
		l := lz4.NewWriter(&out)
		w, err = l, l.Apply(lz4.LegacyOption(true))
	default:
		t.Fatalf("no such compression: %s", format)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// vmlinux is an ELF file such as a kernel proper; with pvh it has the note.
func vmlinux(release string, pvh bool) []byte {
	notes := note("Linux\x00", 0x100, []byte{1, 2})
	if pvh {
		notes = append(notes, note("Xen\x00", 18, []byte{0x50, 0, 0, 1})...)
	}
	body := append(notes, banner+release+" (test)\x00"...)
	body = append(body, make([]byte, 5000)...)
	return elfOf(4 /* PT_NOTE */, 62, body, len(notes))
}

// elfOf is an ELF64 file with one program header of that type about the first
// n bytes of body.
func elfOf(kind uint32, machine uint16, body []byte, n int) []byte {
	const headers = 64 + 56
	le := binary.LittleEndian
	b := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9)...)
	b = le.AppendUint16(b, 2) // ET_EXEC
	b = le.AppendUint16(b, machine)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, 0x1000000)
	b = le.AppendUint64(b, 64) // program headers
	b = le.AppendUint64(b, 0)
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{64, 56, 1, 64, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	b = le.AppendUint32(b, kind)
	b = le.AppendUint32(b, 4)
	for _, v := range []uint64{headers, 0, 0, uint64(n), uint64(n), 4} {
		b = le.AppendUint64(b, v)
	}
	return append(b, body...)
}

func note(name string, kind uint32, desc []byte) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, uint32(len(name)))
	b = le.AppendUint32(b, uint32(len(desc)))
	b = le.AppendUint32(b, kind)
	pad := func(s []byte) []byte { return append(s, make([]byte, -len(s)&3)...) }
	return append(append(b, pad([]byte(name))...), pad(slices.Clone(desc))...)
}

// bzImage wraps an ELF file as the kernel's build does (arch/x86/boot/header.S,
// scripts/Makefile.lib: all formats but gzip are followed by the length).
func bzImage(t testing.TB, release, compression string, elf []byte) []byte {
	t.Helper()
	return bzImageOf(release, packed(t, compression, elf))
}

func packed(t testing.TB, compression string, elf []byte) []byte {
	payload := compress(t, compression, elf)
	if compression != "gz" {
		payload = binary.LittleEndian.AppendUint32(payload, uint32(len(elf)))
	}
	return payload
}

func bzImageOf(release string, payload []byte) []byte {
	const sects, versionText, payloadOffset = 7, 0x300, 0x40
	b := make([]byte, (sects+1)*512+payloadOffset)
	le := binary.LittleEndian
	b[0x1f1] = sects
	copy(b[0x202:], "HdrS")
	le.PutUint16(b[0x206:], 0x20f)
	le.PutUint16(b[0x20e:], versionText)
	le.PutUint32(b[0x248:], payloadOffset)
	le.PutUint32(b[0x24c:], uint32(len(payload)))
	copy(b[0x200+versionText:], release+" (a@b) #1 SMP\x00")
	return append(b, payload...)
}

// image is a whole kernel image, bootable through PVH.
func imageOf(t testing.TB, release string) string {
	return string(bzImage(t, release, "gz", vmlinux(release, true)))
}

// module is what is looked at of a module.
func module(release string) string {
	return "\x7fELF\x00license=GPL\x00vermagic=" + release + " SMP mod_unload \x00"
}

// debianPackage is a kernel as Debian packs it before Linux 6.19.
func debianPackage(t testing.TB, release, version string) pkg {
	return pkg{name: "linux-image-" + release, version: version, files: []file{
		{name: "./boot/vmlinuz-" + release, content: imageOf(t, release)},
		{name: "./boot/config-" + release, content: "CONFIG_IP_VS=m\nCONFIG_NET_IPIP=m\nCONFIG_VETH=m\nCONFIG_BRIDGE=y\n"},
		{name: "./boot/System.map-" + release, content: "not needed"},
		{name: "./lib/modules/" + release + "/kernel/net/netfilter/ipvs/ip_vs.ko", content: module(release)},
		{name: "./lib/modules/" + release + "/kernel/net/ipv4/ipip.ko", content: module(release)},
		{name: "./lib/modules/" + release + "/kernel/drivers/net/veth.ko", content: module(release)},
		{name: "./lib/modules/" + release + "/modules.builtin", content: "kernel/net/bridge/bridge.ko\n"},
		{name: "./usr/share/doc/linux/copyright", content: "not needed"},
	}}
}

// newCache is an empty cache.
func newCache(t testing.TB) *Cache { return &Cache{Dir: filepath.Join(t.TempDir(), "cache")} }

func readString(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
