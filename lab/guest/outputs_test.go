package guest

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// outputStream is a tar stream of headers; a regular file holds its own name.
func outputStream(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg && h.Size == 0 {
			h.Size = int64(len(h.Name))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg && h.Size == int64(len(h.Name)) {
			if _, err := w.Write([]byte(h.Name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = w.Flush() // a file that is only announced has no content here
	return b.Bytes()
}

// outputPlaces are a directory and a file in a fresh directory, beside one that
// nothing may touch. A link in the directory leads there.
func outputPlaces(t testing.TB) (outputs []Output, outside string) {
	t.Helper()
	base := t.TempDir()
	outside = filepath.Join(base, "outside")
	dir := filepath.Join(base, "dir")
	for _, d := range []string{outside, dir} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(outside, "file"), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"away": outside, "link": filepath.Join(outside, "file")} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	return []Output{{Path: "/out", Host: dir, Dir: true}, {Path: "/x", Host: filepath.Join(base, "single")}}, outside
}

// untouched fails the test when something was written outside of outputs.
func untouched(t *testing.T, outputs []Output, outside string) {
	t.Helper()
	entries, err := os.ReadDir(outside)
	b, _ := os.ReadFile(filepath.Join(outside, "file"))
	if err != nil || len(entries) != 1 || string(b) != "mine" {
		t.Errorf("outside: %v, %v, %q", entries, err, b)
	}
	entries, err = os.ReadDir(filepath.Dir(outside))
	if err != nil {
		t.Error(err)
	}
	for _, e := range entries {
		if name := e.Name(); name != "dir" && name != "outside" && name != filepath.Base(outputs[1].Host) {
			t.Errorf("%s was made", name)
		}
	}
}

func TestExtractOutputs(t *testing.T) {
	outputs, outside := outputPlaces(t)
	stream := outputStream(t,
		tar.Header{Name: "0/a", Typeflag: tar.TypeReg, Mode: 0o755},
		tar.Header{Name: "0/sub/", Typeflag: tar.TypeDir},
		tar.Header{Name: "0/sub/b", Typeflag: tar.TypeReg, Mode: 0o600},
		tar.Header{Name: "0/link", Typeflag: tar.TypeReg},
		tar.Header{Name: "1", Typeflag: tar.TypeReg},
	)
	for range 2 { // what is there is replaced
		if err := extractOutputs(bytes.NewReader(stream), outputs); err != nil {
			t.Fatal(err)
		}
	}
	for file, want := range map[string]string{"dir/a": "0/a", "dir/sub/b": "0/sub/b", "dir/link": "0/link", "single": "1"} {
		file = filepath.Join(filepath.Dir(outside), file)
		info, err := os.Lstat(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if err != nil || string(got) != want || !info.Mode().IsRegular() {
			t.Errorf("%s: %q, %v, %v; want %q", file, got, info.Mode(), err, want)
		}
		if executable := info.Mode()&0o111 != 0; executable != (want == "0/a") {
			t.Errorf("%s has mode %v", file, info.Mode())
		}
	}
	untouched(t, outputs, outside)
}

func TestExtractOutputsRefuses(t *testing.T) {
	reg := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg} }
	for name, headers := range map[string][]tar.Header{
		"not a name within":    {reg("0/../outside/evil")},
		"receive \"0/./a\"":    {reg("0/./a")},
		"receive \"0//etc/x\"": {reg("0//etc/x")},
		"receive \"0\"":        {reg("0")},
		"escapes":              {reg("0/away/evil")},
		"no output of the job": {reg("2/a")},
		"receive \"-1/a\"":     {reg("-1/a")},
		"receive \"../evil\"":  {reg("../evil")},
		"not a file":           {reg("1/a")},
		"receive \"1\"":        {{Name: "1", Typeflag: tar.TypeDir}},
		"neither a file nor":   {{Name: "0/s", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}},
		"receive \"0/h\"":      {{Name: "0/h", Typeflag: tar.TypeLink, Linkname: "0/a"}},
		"receive \"0/d\"":      {{Name: "0/d", Typeflag: tar.TypeChar}},
		"more than 256 MiB":    {{Name: "0/big", Typeflag: tar.TypeReg, Size: maxOutputBytes + 1}},
		"is there and is no":   {{Name: "0/sub", Typeflag: tar.TypeDir}, reg("0/sub")},
	} {
		outputs, outside := outputPlaces(t)
		err := extractOutputs(bytes.NewReader(outputStream(t, headers...)), outputs)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error is %v, want %q", err, name)
		}
		untouched(t, outputs, outside)
	}
	many := make([]tar.Header, maxOutputFiles+1)
	for i := range many {
		many[i] = tar.Header{Name: "0/sub", Typeflag: tar.TypeDir}
	}
	outputs, _ := outputPlaces(t)
	if err := extractOutputs(bytes.NewReader(outputStream(t, many...)), outputs); err == nil || !strings.Contains(err.Error(), "more than 10000 files") {
		t.Errorf("error is %v, want one about the number of files", err)
	}
}

func TestReceiveOutputsFailsEarly(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, o := range []Output{{Path: "relative", Host: "x"}, {Path: "/out", Host: filepath.Join(file, "below"), Dir: true}} {
		if r, err := receiveOutputs([]Output{o}); err == nil {
			t.Errorf("%+v is received", o)
			_ = r.close()
		}
	}
}

// Whatever the stream, nothing is written outside, and no more than the limits.
func FuzzExtractOutputs(f *testing.F) {
	f.Add(outputStream(f, tar.Header{Name: "0/a", Typeflag: tar.TypeReg}, tar.Header{Name: "1", Typeflag: tar.TypeReg}))
	f.Add(outputStream(f, tar.Header{Name: "0/away/evil", Typeflag: tar.TypeReg}))
	f.Add(outputStream(f, tar.Header{Name: "0/s", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, tar.Header{Name: "0/s/x", Typeflag: tar.TypeReg}))
	f.Fuzz(func(t *testing.T, stream []byte) {
		outputs, outside := outputPlaces(t)
		_ = extractOutputs(bytes.NewReader(stream), outputs)
		untouched(t, outputs, outside)
		err := filepath.WalkDir(outputs[0].Host, func(path string, d fs.DirEntry, err error) error {
			if d != nil && d.Type()&^(fs.ModeDir|fs.ModeSymlink) != 0 {
				t.Errorf("%s is a %v", path, d.Type())
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
}
