package guest

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"
)

var update = flag.Bool("update", false, "write the golden files")

// The golden archive is read back by cpio -itv, and by an independent reader
// below.
func TestArchive(t *testing.T) {
	var b bytes.Buffer
	a := newArchive(&b)
	a.dir("/dev", 0o755)
	a.char("dev/console", 0o600, 5, 1)
	a.bytes("/etc/deep/passwd", 0o640, []byte("root\n"))
	a.file("bin/x", 0o755, 3, strings.NewReader("abc"))
	a.symlink("bin/y", "x")
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "archive.golden")
	if *update {
		if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("archive differs from %s:\n%q", golden, b.Bytes())
	}

	r := cpio.NewReader(&b)
	for _, want := range []struct {
		name, content string
		mode          cpio.FileMode
	}{
		{"dev", "", cpio.TypeDir | 0o755},
		{"dev/console", "", cpio.TypeChar | 0o600},
		{"etc", "", cpio.TypeDir | 0o755},
		{"etc/deep", "", cpio.TypeDir | 0o755},
		{"etc/deep/passwd", "root\n", cpio.TypeReg | 0o640},
		{"bin", "", cpio.TypeDir | 0o755},
		{"bin/x", "abc", cpio.TypeReg | 0o755},
		{"bin/y", "x", cpio.TypeSymlink | 0o777},
	} {
		h, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Linkname != "" {
			content = []byte(h.Linkname)
		}
		if h.Name != want.name || h.Mode != want.mode || string(content) != want.content {
			t.Errorf("entry %s %o %q, want %s %o %q", h.Name, h.Mode, content, want.name, want.mode, want.content)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last entry: %v, want EOF", err)
	}
}

func TestArchiveErrors(t *testing.T) {
	for name, write := range map[string]func(*archive){
		"twice":    func(a *archive) { a.bytes("x", 0, nil); a.bytes("/x", 0, nil) },
		"short":    func(a *archive) { a.file("x", 0, 4, strings.NewReader("abc")) },
		"too long": func(a *archive) { a.file("x", 0, 1<<32, strings.NewReader("")) },
	} {
		a := newArchive(io.Discard)
		write(a)
		if a.close() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
