// Kernel images. A bzImage is a small program that decompresses the kernel
// proper, an ELF file, and starts it; under emulation that takes seconds. QEMU
// can start the ELF file directly, in the way of Xen's PVH guests, when one of
// its notes names the entry point. A User-Mode Linux is an ordinary executable.

package kernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// image is what the first bytes of a kernel image say.
type image struct {
	// release is the uname -r of the kernel.
	release string
	uml     bool
	// elf tells a kernel that is not wrapped into a bzImage.
	elf bool
}

// readImage recognises a bzImage for x86, a vmlinux and a User-Mode Linux.
func readImage(r io.ReaderAt) (image, error) {
	head := make([]byte, 0x1000)
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return image{}, fmt.Errorf("read kernel image: %w", err)
	}
	head = head[:n]
	if bytes.HasPrefix(head, []byte(elf.ELFMAG)) {
		return readELF(r)
	}
	s, err := parseSetup(head)
	if err != nil {
		return image{}, fmt.Errorf("read kernel image: %w", err)
	}
	version := make([]byte, 128)
	n, err = r.ReadAt(version, s.version)
	if err != nil && !errors.Is(err, io.EOF) {
		return image{}, fmt.Errorf("read kernel image: %w", err)
	}
	text, _, _ := bytes.Cut(version[:n], []byte{0})
	release, _, _ := strings.Cut(string(text), " ")
	if !validRelease(release) {
		return image{}, fmt.Errorf("read kernel image: %w: its version is %.64q", errCorrupt, text)
	}
	return image{release: release}, nil
}

// banner starts the text in every kernel that /proc/version shows.
const banner = "Linux version "

func readELF(r io.ReaderAt) (image, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return image{}, fmt.Errorf("read kernel image: %w: %w", errCorrupt, err)
	}
	if f.Machine != elf.EM_X86_64 {
		return image{}, input("read kernel image: it is for %v; only x86-64 can run here", f.Machine)
	}
	img := image{elf: true}
	for _, p := range f.Progs {
		img.uml = img.uml || p.Type == elf.PT_INTERP
	}
	found, err := find(r, banner)
	if err != nil {
		return image{}, fmt.Errorf("read kernel image: %w", err)
	}
	img.release, _, _ = strings.Cut(found, " ")
	if !validRelease(img.release) {
		return image{}, input("read kernel image: it is an executable, but no kernel: it has no %q", banner)
	}
	return img, nil
}

// find returns up to 128 bytes that follow the first prefix with text after
// it, or "".
func find(r io.ReaderAt, prefix string) (string, error) {
	const window, step = 1 << 16, 1<<16 - 256
	b := make([]byte, window)
	for offset := int64(0); ; offset += step {
		n, err := r.ReadAt(b, offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err //nolint:wrapcheck // the caller names what was read
		}
		for rest := b[:n]; ; {
			_, after, ok := bytes.Cut(rest, []byte(prefix))
			if !ok {
				break
			}
			if len(after) > 0 && after[0] >= '0' && after[0] <= '9' {
				return string(after[:min(128, len(after))]), nil
			}
			rest = after
		}
		if err != nil {
			return "", nil
		}
	}
}

// validRelease tells whether s can be a uname -r.
func validRelease(s string) bool {
	if s == "" || len(s) > 64 || s[0] < '0' || s[0] > '9' {
		return false
	}
	const allowed = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.+-_~"
	return strings.IndexFunc(s, func(r rune) bool { return !strings.ContainsRune(allowed, r) }) < 0
}

// setup is what the setup header of a bzImage says (Documentation/arch/x86/boot.rst).
type setup struct {
	version                      int64 // offset of the version text
	payloadOffset, payloadLength int64
}

func parseSetup(head []byte) (setup, error) {
	const (
		setupSects   = 0x1f1
		magic        = 0x202
		protocol     = 0x206
		versionText  = 0x20e
		payload      = 0x248
		payloadSince = 0x208 // boot protocol 2.08, Linux 2.6.26
	)
	if len(head) < payload+8 || string(head[magic:magic+4]) != "HdrS" {
		return setup{}, input("it is neither a bzImage for x86 nor an ELF file")
	}
	le := binary.LittleEndian
	if v := le.Uint16(head[protocol:]); v < payloadSince {
		return setup{}, input("its boot protocol is %d.%02d; 2.08 or later is needed", v>>8, v&0xff)
	}
	sects := int64(head[setupSects])
	if sects == 0 {
		sects = 4
	}
	return setup{
		version:       0x200 + int64(le.Uint16(head[versionText:])),
		payloadOffset: (sects+1)*512 + int64(le.Uint32(head[payload:])),
		payloadLength: int64(le.Uint32(head[payload+4:])),
	}, nil
}

// Vmlinux decompresses the ELF image inside a bzImage and writes it to w. It
// reads all formats of the kernel but LZO. The error is about r or about w.
func Vmlinux(w io.Writer, bzImage io.ReaderAt) error {
	head := make([]byte, 0x1000)
	n, err := bzImage.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("decompress kernel image: %w", err)
	}
	s, err := parseSetup(head[:n])
	if err != nil {
		return fmt.Errorf("decompress kernel image: %w", err)
	}
	payload := io.NewSectionReader(bzImage, s.payloadOffset, s.payloadLength)
	magic := make([]byte, 8)
	if _, err := payload.ReadAt(magic, 0); err != nil {
		return fmt.Errorf("decompress kernel image: %w: no payload", errCorrupt)
	}
	format := compressionOf(magic)
	if format == nil {
		return fmt.Errorf("decompress kernel image: its payload is in no known format: it starts with % x", magic)
	}
	size, packed := int64(maxImage), io.Reader(payload)
	if format.sized {
		var tail [4]byte
		if _, err := payload.ReadAt(tail[:], s.payloadLength-4); err != nil {
			return fmt.Errorf("decompress kernel image: %w: %s", errCorrupt, format.name)
		}
		size = min(size, int64(binary.LittleEndian.Uint32(tail[:])))
		packed = io.LimitReader(payload, s.payloadLength-4)
	}
	plain, done, err := decompress(packed)
	if err != nil {
		return fmt.Errorf("decompress kernel image: %w", err)
	}
	defer done()
	written, err := io.Copy(w, io.LimitReader(plain, size))
	switch {
	case err != nil:
		return fmt.Errorf("decompress kernel image, %s: %w", format.name, err)
	case format.sized && written != size:
		return fmt.Errorf("decompress kernel image, %s: %w: %d bytes, not %d", format.name, errCorrupt, written, size)
	}
	return nil
}

// maxImage bounds a decompressed kernel image; a kernel with debug code has
// about 100 MiB.
const maxImage = 1 << 30

// PVHEntry is the address at which QEMU starts an ELF image directly; ok is
// false when no note has it, as with kernels built without CONFIG_PVH.
func PVHEntry(r io.ReaderAt) (entry uint32, ok bool, err error) {
	const physEntry = 18 // XEN_ELFNOTE_PHYS32_ENTRY, include/xen/interface/elfnote.h
	f, err := elf.NewFile(r)
	if err != nil {
		return 0, false, fmt.Errorf("read ELF image: %w: %w", errCorrupt, err)
	}
	if f.Machine != elf.EM_X86_64 {
		return 0, false, fmt.Errorf("read ELF image: it is for %v, not x86-64", f.Machine)
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_NOTE || p.Filesz > 1<<20 {
			continue
		}
		notes := make([]byte, p.Filesz)
		if _, err := p.ReadAt(notes, 0); err != nil {
			return 0, false, fmt.Errorf("read ELF image: %w: notes: %w", errCorrupt, err)
		}
		for len(notes) >= 12 {
			le := binary.LittleEndian
			name, desc, kind := uint64(le.Uint32(notes)), uint64(le.Uint32(notes[4:])), le.Uint32(notes[8:])
			start := 12 + (name+3)&^3
			next := start + (desc+3)&^3
			if next > uint64(len(notes)) {
				break
			}
			if kind == physEntry && string(notes[12:12+name]) == "Xen\x00" && desc >= 4 {
				return le.Uint32(notes[start:]), true, nil
			}
			notes = notes[next:]
		}
	}
	return 0, false, nil
}

// noPVH is why QEMU cannot start an ELF image.
const noPVH = "it has no PVH entry point: the kernel was built without CONFIG_PVH"

// writeELF makes dst, the decompressed image of a bzImage, and keeps it only
// when QEMU can boot it. Otherwise it returns why it cannot. The error is one
// of writing.
func writeELF(image, dst string) (why string, err error) {
	in, err := os.Open(image)
	if err != nil {
		return "", fmt.Errorf("decompress kernel image: %w", err)
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
	if err != nil {
		return "", fmt.Errorf("decompress kernel image: %w", err)
	}
	sink := &sinkWriter{w: out}
	if err := Vmlinux(sink, in); err != nil {
		why = err.Error()
	} else if _, ok, err := PVHEntry(out); err != nil {
		why = err.Error()
	} else if !ok {
		why = noPVH
	}
	if err := out.Close(); sink.err == nil && err != nil {
		sink.err = fmt.Errorf("decompress kernel image: %w", err)
	}
	if why != "" || sink.err != nil {
		err = errors.Join(sink.err, os.Remove(dst))
	}
	return why, err
}

// sinkWriter remembers that writing failed, to tell it from what is wrong with
// what is read.
type sinkWriter struct {
	w   io.Writer
	err error
}

func (s *sinkWriter) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	if err != nil {
		s.err = err
	}
	return n, err //nolint:wrapcheck // the caller says what was written
}
