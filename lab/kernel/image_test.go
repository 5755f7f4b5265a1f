package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The image in every format that Go can both write and read, and in two that
// other programs wrote: xz with the filter for x86 code, as the kernel's build
// uses it, and bzip2.
func TestVmlinux(t *testing.T) {
	elf := vmlinux("6.8.0", true)
	images := map[string][]byte{}
	for _, format := range []string{"gz", "xz", "zst", "lz4", "lzma"} {
		images[format] = bzImage(t, "6.8.0", format, elf)
	}
	for name, image := range images {
		var out bytes.Buffer
		if err := Vmlinux(&out, bytes.NewReader(image)); err != nil || !bytes.Equal(out.Bytes(), elf) {
			t.Errorf("%s: %v, %d bytes, want %d", name, err, out.Len(), len(elf))
		}
	}
	var want string // calls of one function, from everywhere
	for i := range 1500 {
		want += "\x90\xe8" + string(binary.LittleEndian.AppendUint32(nil, uint32(1000-6*i)))
	}
	for _, name := range []string{"code.xz", "code.bz2"} {
		payload := binary.LittleEndian.AppendUint32([]byte(readString(t, filepath.Join("testdata", name))), uint32(len(want)))
		var out bytes.Buffer
		if err := Vmlinux(&out, bytes.NewReader(bzImageOf("6.8.0", payload))); err != nil || out.String() != want {
			t.Errorf("%s: %v, %d bytes, want %d", name, err, out.Len(), len(want))
		}
	}
}

func TestVmlinuxErrors(t *testing.T) {
	elf := vmlinux("6.8.0", true)
	whole := bzImage(t, "6.8.0", "xz", elf)
	old := bytes.Clone(whole)
	binary.LittleEndian.PutUint16(old[0x206:], 0x207)
	payload := packed(t, "xz", elf)
	binary.LittleEndian.PutUint32(payload[len(payload)-4:], uint32(len(elf))+1)
	for want, image := range map[string][]byte{
		"corrupt or truncated":      whole[:len(whole)-100],
		"boot protocol is 2.07":     old,
		"neither a bzImage":         []byte("#!/bin/sh\n"),
		"no known format":           bzImageOf("6.8.0", []byte("\x89LZO\x00\x00\x00\x00\x00")),
		"5191 bytes, not 5192":      bzImageOf("6.8.0", payload),
		"corrupt or truncated: no ": bzImageOf("6.8.0", nil),
	} {
		if err := Vmlinux(&bytes.Buffer{}, bytes.NewReader(image)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want one with %q", err, want)
		}
	}
}

func TestPVHEntry(t *testing.T) {
	if entry, ok, err := PVHEntry(bytes.NewReader(vmlinux("6.8.0", true))); !ok || err != nil || entry != 0x1000050 {
		t.Errorf("%#x, %v, %v", entry, ok, err)
	}
	if _, ok, err := PVHEntry(bytes.NewReader(vmlinux("6.8.0", false))); ok || err != nil {
		t.Errorf("without the note: %v, %v", ok, err)
	}
	arm := elfOf(4, 183, nil, 0)
	if _, _, err := PVHEntry(bytes.NewReader(arm)); err == nil || !strings.Contains(err.Error(), "AARCH64") {
		t.Errorf("of arm64: %v", err)
	}
}

func TestReadImage(t *testing.T) {
	uml := elfOf(3 /* PT_INTERP */, 62, []byte("/lib/ld.so\x00"+strings.Repeat("x", 1<<16-300)+banner+"%s\x00"+banner+"6.1.176 (x)"), 11)
	for _, tt := range []struct {
		content []byte
		want    image
	}{
		{bzImage(t, "6.8.0-31-generic", "gz", nil), image{release: "6.8.0-31-generic"}},
		{vmlinux("6.8.0", true), image{release: "6.8.0", elf: true}},
		{uml, image{release: "6.1.176", elf: true, uml: true}}, // the banner lies across two windows
	} {
		if got, err := readImage(bytes.NewReader(tt.content)); err != nil || got != tt.want {
			t.Errorf("%+v, %v; want %+v", got, err, tt.want)
		}
	}
	for want, content := range map[string][]byte{
		"neither a bzImage": []byte("MZ"),
		"its version is":    bzImage(t, "\x01\x02", "gz", nil),
		"no kernel":         elfOf(3, 62, []byte("/lib/ld.so\x00"), 11),
		"EM_AARCH64":        elfOf(4, 183, nil, 0),
	} {
		if _, err := readImage(bytes.NewReader(content)); err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, ErrInput) {
			t.Errorf("error is %v, want one with %q", err, want)
		}
	}
}

// Nothing stays of an image that QEMU could not start.
func TestWriteELF(t *testing.T) {
	for name, content := range map[string][]byte{
		"no PVH entry": bzImage(t, "6.8.0", "gz", vmlinux("6.8.0", false)),
		"format":       bzImageOf("6.8.0", []byte("\x89LZO\x00\x00\x00\x00\x00")),
	} {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "image"), string(content))
		why, err := writeELF(filepath.Join(dir, "image"), filepath.Join(dir, "elf"))
		if err != nil || !strings.Contains(why, name) {
			t.Errorf("%s: %q, %v", name, why, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "elf")); err == nil {
			t.Errorf("%s: the file is there", name)
		}
	}
}

func FuzzVmlinux(f *testing.F) {
	f.Add(bzImageOf("6.8.0", packed(f, "gz", vmlinux("6.8.0", true))))
	f.Add(vmlinux("6.8.0", true))
	f.Fuzz(func(_ *testing.T, b []byte) {
		r := bytes.NewReader(b)
		_, _ = readImage(r)
		_, _, _ = PVHEntry(r)
		_ = Vmlinux(&limitedWriter{}, r)
	})
}

// limitedWriter takes 1 MiB.
type limitedWriter struct{ n int }

func (l *limitedWriter) Write(b []byte) (int, error) {
	if l.n += len(b); l.n > 1<<20 {
		return 0, errors.New("enough")
	}
	return len(b), nil
}
