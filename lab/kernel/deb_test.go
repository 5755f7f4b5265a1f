package kernel

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestReadDeb(t *testing.T) {
	for _, compression := range []string{"xz", "zst", "gz", "none"} {
		t.Run(compression, func(t *testing.T) {
			p := pkg{name: "a", version: "1:2-3", compression: compression, files: []file{
				{name: "./x/y", content: "content"}, {name: "/../z", content: "outside"}, {name: "x/link", link: "y"},
			}}
			var got []string
			c, err := readDeb(bytes.NewReader(p.bytes(t)), func(h *tar.Header, r io.Reader) error {
				b, err := io.ReadAll(r)
				got = append(got, h.Name+" "+string(b)+h.Linkname)
				return err
			})
			if err != nil || c != (control{"a", "1:2-3", "amd64"}) {
				t.Errorf("%+v, %v", c, err)
			}
			if want := "x/y content, z outside, x/link y"; strings.Join(got, ", ") != want {
				t.Errorf("files %q, want %s", got, want)
			}
		})
	}
}

// Whatever is cut off is missed, and said to be.
func TestReadDebTruncated(t *testing.T) {
	whole := debianPackage(t, "6.1.0-9-cloud-amd64", "6.1.9-1").bytes(t)
	for n := 0; n < len(whole); n += 41 {
		_, err := readDeb(bytes.NewReader(whole[:n]), func(_ *tar.Header, r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			return err
		})
		if !errors.Is(err, errCorrupt) || !errors.Is(err, ErrInput) {
			t.Fatalf("%d of %d bytes: %v", n, len(whole), err)
		}
	}
}

func TestReadDebLimits(t *testing.T) {
	header := func(size string) string {
		return arMagic + fmt.Sprintf("%-16s%-12d%-6d%-6d%-8o%-10s`\n", "control.tar", 0, 0, 0, 0, size)
	}
	bomb := func() string { // 16 MiB of control file in a few KiB
		control := tarOf(t, []file{{name: "./control", content: "Package: a\n" + strings.Repeat(" x\n", 6<<20)}})
		data := compress(t, "zst", control)
		return header(fmt.Sprint(len(data))) + string(data)
	}
	for name, content := range map[string]string{
		"negative size": header("-60"), "no size": header("x"), "huge size": header("9999999999"), "bomb": bomb(),
	} {
		_, err := readDeb(strings.NewReader(content), func(*tar.Header, io.Reader) error { return nil })
		if !errors.Is(err, errCorrupt) {
			t.Errorf("%s: %v, want %v", name, err, errCorrupt)
		}
	}
}

func TestReadParagraphs(t *testing.T) {
	const text = "Package: a\nDepends: x,\n y\nDescription: d\n folded\n\n\nPackage: b\nVersion: 1\n\nPackage: c\n"
	var got []string
	err := readParagraphs(strings.NewReader(text), func(pkg string) bool { return pkg != "b" }, func(fields map[string]string) {
		got = append(got, fmt.Sprint(fields))
	})
	want := "[map[Depends:x, y Description:d Package:a] map[Package:c]]"
	if err != nil || fmt.Sprint(got) != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
	for _, bad := range []string{"Package a\n", "Package: " + strings.Repeat("a", 2<<20), "Depends: a\n" + strings.Repeat(" x\n", 40_000)} {
		if err := readParagraphs(strings.NewReader(bad), func(string) bool { return true }, func(map[string]string) {}); !errors.Is(err, errCorrupt) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
}

// Any bytes end in an error or in files with clean names.
func FuzzReadDeb(f *testing.F) {
	for _, compression := range []string{"xz", "zst", "gz", "none"} {
		f.Add(pkg{name: "a", version: "1", compression: compression, files: []file{{name: "./x", content: "y"}}}.bytes(f))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := readDeb(bytes.NewReader(b), func(h *tar.Header, r io.Reader) error {
			if h.Name == "" || h.Name[0] == '/' || strings.HasPrefix(h.Name, "../") || strings.Contains(h.Name, "/../") {
				t.Errorf("file %q", h.Name)
			}
			_, err := io.Copy(io.Discard, io.LimitReader(r, 1<<20))
			return err
		})
		if err != nil && !errors.Is(err, ErrInput) {
			t.Errorf("error %v is none of input", err)
		}
	})
}
