package kernel

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz/lzma"
)

// maxWindow bounds the memory that a compressed file can ask for. The kernel
// compresses its image with windows of up to 128 MiB.
const maxWindow = 256 << 20

// compression is a format of packages, modules and kernel images.
type compression struct {
	name, magic string
	open        func(io.Reader) (io.Reader, error)
	// sized says that the kernel, when it compresses its image, adds the
	// length of the plain image in four bytes; gzip has it in its own trailer.
	sized bool
}

// compressions lists what Linux and dpkg use, except LZO, for which there is no
// reader in Go.
func compressions() []compression {
	return []compression{
		{"xz", "\xfd7zXZ\x00", func(r io.Reader) (io.Reader, error) { return xz.NewReader(r, maxWindow) }, true},
		{"zstd", "\x28\xb5\x2f\xfd", func(r io.Reader) (io.Reader, error) {
			return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		}, true},
		{"gzip", "\x1f\x8b", func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }, false},
		{"lz4", "\x02\x21\x4c\x18", func(r io.Reader) (io.Reader, error) { return lz4.NewReader(r), nil }, true},
		{"bzip2", "BZh", func(r io.Reader) (io.Reader, error) { return bzip2.NewReader(r), nil }, true},
		{"lzma", "\x5d\x00\x00", func(r io.Reader) (io.Reader, error) {
			return lzma.ReaderConfig{DictCap: maxWindow}.NewReader(r)
		}, true},
	}
}

// compressionOf recognises a format by its first bytes; nil for none.
func compressionOf(head []byte) *compression {
	for _, c := range compressions() {
		if bytes.HasPrefix(head, []byte(c.magic)) {
			return &c
		}
	}
	return nil
}

// decompress reads r in whatever format it is; what is not compressed is
// passed through. The caller calls done when it has read enough.
func decompress(r io.Reader) (plain io.Reader, done func(), err error) {
	buffered := bufio.NewReaderSize(r, 1<<16)
	head, _ := buffered.Peek(8) // a short file is one of no format
	c := compressionOf(head)
	if c == nil {
		return buffered, func() {}, nil
	}
	if plain, err = c.open(buffered); err != nil {
		return nil, nil, fmt.Errorf("%w: %s: %w", errCorrupt, c.name, err)
	}
	if d, ok := plain.(*zstd.Decoder); ok {
		return plain, d.Close, nil
	}
	return plain, func() {}, nil
}

// newLines scans lines of up to 1 MiB.
func newLines(r io.Reader) *bufio.Scanner {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 1<<16), 1<<20)
	return s
}
