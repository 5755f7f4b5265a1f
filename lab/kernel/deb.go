// A .deb is an ar archive of debian-binary, control.tar and data.tar (deb(5)).
// It is read as a stream, and not trusted: names, sizes and numbers have
// limits, and whoever receives the files decides by name alone what to keep.

package kernel

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
)

// What no kernel package comes near.
const (
	maxEntries  = 100_000
	maxUnpacked = 4 << 30
	maxControl  = 1 << 20
	maxField    = 1 << 16
)

// ErrInput is what every error about a reference is, or about the files that it
// leads to; all others are about this system or the network.
var ErrInput = errors.New("bad input")

type inputError struct{ error }

func (inputError) Is(target error) bool { return target == ErrInput }

func (e inputError) Unwrap() error { return e.error }

// input makes an error that is ErrInput.
func input(format string, args ...any) error { return inputError{fmt.Errorf(format, args...)} }

// errCorrupt is the cause of every error about a file that is not what its
// format says.
var errCorrupt error = inputError{errors.New("corrupt or truncated")}

// control is what the control file of a package says.
type control struct{ name, version, arch string }

// readDeb reads a package from start to end and gives each file and symbolic
// link in data.tar to file, under a clean relative path. The reader of file is
// valid during the call only.
func readDeb(r io.Reader, file func(h *tar.Header, r io.Reader) error) (control, error) {
	var c control
	magic := make([]byte, len(arMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != arMagic {
		return c, fmt.Errorf("read package: %w: it does not start as a .deb does", errCorrupt)
	}
	data := false
	for {
		name, size, err := arHeader(r)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return c, fmt.Errorf("read package: %w", err)
		}
		member := &io.LimitedReader{R: r, N: size}
		switch {
		case strings.HasPrefix(name, "control.tar"):
			c, err = readControl(member)
		case strings.HasPrefix(name, "data.tar"):
			data = true
			err = readData(member, file)
		}
		if err != nil {
			return c, fmt.Errorf("read %s of package: %w", name, err)
		}
		if _, err := io.Copy(io.Discard, member); err != nil || member.N > 0 {
			return c, fmt.Errorf("read %s of package: %w: %d bytes are missing", name, errCorrupt, member.N)
		}
		if size%2 == 1 { // members start at even offsets; the last may lack the padding
			_, _ = io.CopyN(io.Discard, r, 1)
		}
	}
	if c.name == "" || !data {
		return c, fmt.Errorf("read package: %w: control.tar or data.tar is missing", errCorrupt)
	}
	return c, nil
}

const arMagic = "!<arch>\n"

// arHeader reads the 60 bytes before a member; io.EOF after the last one.
func arHeader(r io.Reader) (name string, size int64, err error) {
	var h [60]byte
	if n, err := io.ReadFull(r, h[:]); err != nil {
		if n == 0 && errors.Is(err, io.EOF) {
			return "", 0, io.EOF
		}
		return "", 0, fmt.Errorf("%w: it ends within a header", errCorrupt)
	}
	size, err = strconv.ParseInt(strings.TrimRight(string(h[48:58]), " "), 10, 64)
	if err != nil || size < 0 || h[58] != '`' || h[59] != '\n' {
		return "", 0, fmt.Errorf("%w: bad header %q", errCorrupt, h)
	}
	return strings.TrimRight(string(h[:16]), " /"), size, nil
}

func readControl(r io.Reader) (control, error) {
	var c control
	err := readTar(r, maxControl, func(h *tar.Header, r io.Reader) error {
		if h.Name != "control" {
			return nil
		}
		return readParagraphs(r, func(string) bool { return true }, func(fields map[string]string) {
			c = control{name: fields["Package"], version: fields["Version"], arch: fields["Architecture"]}
		})
	})
	return c, err
}

func readData(r io.Reader, file func(*tar.Header, io.Reader) error) error {
	return readTar(r, maxUnpacked, file)
}

// readTar decompresses and reads a tar archive of at most limit bytes.
func readTar(r io.Reader, limit int64, file func(*tar.Header, io.Reader) error) error {
	plain, closeReader, err := decompress(r)
	if err != nil {
		return err
	}
	defer closeReader()
	limited := &io.LimitedReader{R: plain, N: limit}
	archive := tar.NewReader(limited)
	for n := 0; ; n++ {
		h, err := archive.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case limited.N <= 0 || n >= maxEntries:
			return fmt.Errorf("%w: more than %d MiB or %d files", errCorrupt, limit>>20, maxEntries)
		case err != nil:
			return fmt.Errorf("%w: %w", errCorrupt, err)
		case h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeSymlink:
			continue
		}
		if h.Name = path.Clean("/" + h.Name)[1:]; h.Name == "" {
			return fmt.Errorf("%w: a file without a name", errCorrupt)
		}
		source := &sourceReader{r: archive}
		if err := file(h, source); err != nil {
			if source.err != nil {
				return fmt.Errorf("%w: %w", errCorrupt, err)
			}
			return err
		}
	}
}

// sourceReader remembers that reading failed, to tell damage of what is read
// from trouble with what is written.
type sourceReader struct {
	r   io.Reader
	err error
}

func (s *sourceReader) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err //nolint:wrapcheck // io.EOF must stay what it is
}

// readParagraphs reads text in the form of debian control files: paragraphs of
// "Field: value" lines, a continued value on lines that start with a blank. It
// gives each paragraph whose Package field is wanted to each; the paragraph is
// each's to keep.
func readParagraphs(r io.Reader, wanted func(pkg string) bool, each func(fields map[string]string)) error {
	lines := newLines(r)
	fields, skip, last := map[string]string{}, false, ""
	flush := func() {
		if len(fields) > 0 && !skip {
			each(fields)
			fields = map[string]string{}
		}
		clear(fields)
		skip = false
	}
	for lines.Scan() {
		line := lines.Bytes()
		switch {
		case len(line) == 0:
			flush()
		case skip:
		case line[0] == ' ' || line[0] == '\t':
			if last == "" || last == "Description" {
				continue
			}
			if fields[last] += " " + string(bytes.TrimSpace(line)); len(fields[last]) > maxField {
				return fmt.Errorf("%w: field %.60q is longer than %d bytes", errCorrupt, last, maxField)
			}
		default:
			name, value, ok := bytes.Cut(line, []byte(":"))
			if !ok {
				return fmt.Errorf("%w: line %.60q has no field", errCorrupt, line)
			}
			last = string(name)
			fields[last] = string(bytes.TrimSpace(value))
			skip = last == "Package" && !wanted(fields[last])
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%w: %w", errCorrupt, err)
	}
	flush()
	return nil
}
