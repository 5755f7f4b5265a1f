// Files that a program leaves for the host: init sends them as one tar stream
// when the program has ended, and the host writes them where the job says. The
// stream comes out of the guest, so it is trusted with nothing: not with a
// name, a type, a size or a number.

package guest

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// Limits of all that comes back from one guest.
const (
	maxOutputBytes = 256 << 20
	maxOutputFiles = 10_000
)

// Output is a file or directory of the guest that comes back to the host when
// the program has ended, whatever its exit code. Regular files and directories
// do; what else there is, is named in Result.Skipped. From a guest that panics
// or hangs nothing comes back.
type Output struct {
	// Path is its absolute path in the guest.
	Path string
	// Host is its path on the host. Files that are there are replaced.
	Host string
	// Dir tells a directory from a file. A directory is there when the program
	// starts. For a file its directory is; the program need not write it.
	Dir bool
}

// prepareOutputs makes in the guest what the program may count on.
func prepareOutputs(outputs []Output) error {
	for _, o := range outputs {
		dir := o.Path
		if !o.Dir {
			dir = filepath.Dir(dir)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make a directory for outputs: %w", err)
		}
	}
	return nil
}

// sendOutputs writes all outputs as a tar stream into frames. Names start with
// the number of their output.
func sendOutputs(frames *frameWriter, outputs []Output) (skipped []string, err error) {
	if len(outputs) == 0 {
		return nil, nil
	}
	stream := bufio.NewWriterSize(writerFunc(func(b []byte) (int, error) {
		return len(b), frames.write(frameOutput, b)
	}), maxPayload)
	t := tar.NewWriter(stream)
	for i, o := range outputs {
		skip, err := sendOutput(t, strconv.Itoa(i), o)
		if err != nil {
			return skipped, fmt.Errorf("send %s: %w", o.Path, err)
		}
		skipped = append(skipped, skip...)
	}
	if err := errors.Join(t.Close(), stream.Flush()); err != nil {
		return skipped, fmt.Errorf("send the outputs: %w", err)
	}
	return skipped, nil
}

func sendOutput(t *tar.Writer, number string, o Output) (skipped []string, err error) {
	err = filepath.WalkDir(o.Path, func(file string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && file == o.Path {
			return nil // the program did not write it
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err //nolint:wrapcheck // wrapped by the caller
		}
		rel, err := filepath.Rel(o.Path, file)
		if err != nil {
			return err //nolint:wrapcheck // wrapped by the caller
		}
		header := &tar.Header{Name: path.Join(number, rel), Mode: int64(info.Mode().Perm())}
		switch {
		case info.Mode().IsRegular() && o.Dir != (rel == "."):
			header.Typeflag, header.Size = tar.TypeReg, info.Size()
		case info.IsDir() && o.Dir && rel == ".":
			return nil
		case info.IsDir() && o.Dir:
			header.Typeflag = tar.TypeDir
		default:
			skipped = append(skipped, fmt.Sprintf("%s: %s", file, info.Mode()))
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if err := t.WriteHeader(header); err != nil || header.Typeflag != tar.TypeReg {
			return err //nolint:wrapcheck // wrapped by the caller
		}
		f, err := os.Open(file)
		if err != nil {
			return err //nolint:wrapcheck // wrapped by the caller
		}
		defer f.Close()
		_, err = io.CopyN(t, f, header.Size)
		return err //nolint:wrapcheck // wrapped by the caller
	})
	return skipped, err //nolint:wrapcheck // wrapped by the caller
}

// writerFunc is a function as a writer.
type writerFunc func(b []byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// outputReceiver writes a tar stream of outputs to the host while it comes.
type outputReceiver struct {
	stream *io.PipeWriter
	done   chan error
}

// receiveOutputs makes the directories of outputs, so that what cannot be
// written is known before a guest boots, and waits for the stream. The caller
// calls close.
func receiveOutputs(outputs []Output) (*outputReceiver, error) {
	for _, o := range outputs {
		if !filepath.IsAbs(o.Path) {
			return nil, fmt.Errorf("receive %s: the path in the guest is not absolute", o.Path)
		}
		if !o.Dir {
			continue
		}
		if err := os.MkdirAll(o.Host, 0o777); err != nil {
			return nil, fmt.Errorf("make the directory for %s: %w", o.Path, err)
		}
	}
	r, w := io.Pipe()
	o := &outputReceiver{w, make(chan error, 1)}
	go func() {
		err := extractOutputs(r, outputs)
		if err == nil {
			_, err = io.Copy(io.Discard, r) // tar ends before its padding does
		}
		r.CloseWithError(err)
		o.done <- err
	}()
	return o, nil
}

func (o *outputReceiver) Write(b []byte) (int, error) { return o.stream.Write(b) } //nolint:wrapcheck // the receiver's own error

// close ends the stream and waits until all of it is written.
func (o *outputReceiver) close() error {
	o.stream.Close()
	return <-o.done
}

// extractOutputs writes the files of a tar stream to the places that outputs
// name, and nothing anywhere else: a directory is an os.Root, which no name and
// no symbolic link leads out of.
func extractOutputs(stream io.Reader, outputs []Output) error {
	t := tar.NewReader(stream)
	left := int64(maxOutputBytes)
	for n := 0; ; n++ {
		header, err := t.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read the guest's outputs: %w", err)
		case n >= maxOutputFiles:
			return fmt.Errorf("read the guest's outputs: more than %d files", maxOutputFiles)
		}
		left -= header.Size
		if left < 0 {
			return fmt.Errorf("read the guest's outputs: %s: more than %d MiB in all", header.Name, maxOutputBytes>>20)
		}
		if err := extractOutput(t, header, outputs); err != nil {
			return fmt.Errorf("receive %q: %w", header.Name, err)
		}
	}
}

func extractOutput(r io.Reader, header *tar.Header, outputs []Output) error {
	number, rel, _ := strings.Cut(header.Name, "/")
	i, err := strconv.Atoi(number)
	if err != nil || i < 0 || i >= len(outputs) {
		return errors.New("no output of the job")
	}
	dir, name := outputs[i].Host, strings.TrimSuffix(rel, "/")
	if !outputs[i].Dir {
		if rel != "" || header.Typeflag != tar.TypeReg {
			return errors.New("not a file")
		}
		dir, name = filepath.Dir(dir), filepath.Base(dir)
	}
	if !filepath.IsLocal(name) || name != path.Clean(name) {
		return errors.New("not a name within the directory")
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err //nolint:wrapcheck // it names the directory
	}
	defer root.Close()
	switch header.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o777) //nolint:wrapcheck // it names the directory
	case tar.TypeReg:
		return replaceFile(root, name, fs.FileMode(header.Mode), r)
	default:
		return errors.New("neither a file nor a directory")
	}
}

// replaceFile writes a new file: what had the name before, a link perhaps, is
// taken away and not written through.
func replaceFile(root *os.Root, name string, mode fs.FileMode, r io.Reader) (err error) {
	if info, err := root.Lstat(name); err == nil && !info.Mode().IsRegular() && info.Mode()&fs.ModeSymlink == 0 {
		return fmt.Errorf("%s is there and is no file", filepath.Join(root.Name(), name))
	} else if err == nil {
		if err := root.Remove(name); err != nil {
			return err //nolint:wrapcheck // it names the file
		}
	}
	if err := root.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return err //nolint:wrapcheck // it names the directory
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666|mode&0o111)
	if err != nil {
		return err //nolint:wrapcheck // it names the file
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(f, r)
	return err //nolint:wrapcheck // it names the file
}
