// The channel is the one stream of bytes from a guest to the host: what the
// program wrote, its records, and how it ended, multiplexed into frames. A
// frame is checked by sequence number and CRC, so that a byte which a serial
// line lost or changed is an error and never a wrong result.

package guest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
)

// frameType says what the payload of a frame is.
type frameType uint8

const (
	// frameBroken is never sent: it stands for a stream that cannot be read.
	frameBroken frameType = iota
	// frameHello: init runs; payload is protocolVersion.
	frameHello
	// frameStarted: the program is about to run; payload is startInfo as JSON.
	frameStarted
	// frameStdout and frameStderr: bytes that the program wrote.
	frameStdout
	frameStderr
	// frameRecord: bytes that the program wrote to its record descriptor.
	frameRecord
	// frameOutput: a piece of the tar stream of outputs.
	frameOutput
	// frameFailure: init could not run the program; payload is the reason.
	frameFailure
	// frameExit: the program ended and all its output was sent; payload is
	// exitStatus as JSON. It is the last frame of every stream.
	frameExit
)

const (
	protocolVersion = "pmtulab guest 2"
	frameMagic      = 0x504d // "PM"
	// headerLen: magic 2, type 1, zero 1, sequence 4, payload length 4.
	headerLen = 12
	crcLen    = 4
	// maxPayload is small beside the pipe of a program's output, so that
	// stdout and stderr take turns.
	maxPayload = 32 << 10
)

// errCorrupt is the cause of every error about a stream that is not as it was
// written.
var errCorrupt = errors.New("channel is corrupt")

// frameWriter writes frames; several goroutines may use it.
type frameWriter struct {
	mu  sync.Mutex
	w   io.Writer
	seq uint32
	buf []byte
}

func newFrameWriter(w io.Writer) *frameWriter {
	return &frameWriter{w: w, buf: make([]byte, 0, headerLen+maxPayload+crcLen)}
}

// write sends one frame with a single Write, so that a frame costs one system
// call. The payload is at most maxPayload bytes.
func (f *frameWriter) write(t frameType, payload []byte) error {
	if len(payload) > maxPayload {
		return fmt.Errorf("send frame of type %d: %d bytes exceed the limit of %d", t, len(payload), maxPayload)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	b := binary.BigEndian.AppendUint16(f.buf[:0], frameMagic)
	b = append(b, byte(t), 0)
	b = binary.BigEndian.AppendUint32(b, f.seq)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	b = append(b, payload...)
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	f.seq++
	if _, err := f.w.Write(b); err != nil {
		return fmt.Errorf("send frame of type %d: %w", t, err)
	}
	return nil
}

// frameReader reads what a frameWriter wrote.
type frameReader struct {
	r   io.Reader
	seq uint32
	buf []byte
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{r: r, buf: make([]byte, headerLen+maxPayload+crcLen)}
}

// read returns the next frame; the payload is valid until the next call. The
// error is io.EOF at the end of the stream between two frames,
// io.ErrUnexpectedEOF within one, and wraps errCorrupt for bytes that were not
// written by a frameWriter.
func (f *frameReader) read() (frameType, []byte, error) {
	header := f.buf[:headerLen]
	if _, err := io.ReadFull(f.r, header); err != nil {
		if errors.Is(err, io.EOF) {
			return 0, nil, io.EOF
		}
		return 0, nil, fmt.Errorf("read header of frame %d: %w", f.seq, err)
	}
	if m := binary.BigEndian.Uint16(header); m != frameMagic || header[3] != 0 {
		return 0, nil, fmt.Errorf("read header of frame %d: %w: starts with % x", f.seq, errCorrupt, header[:4])
	}
	if seq := binary.BigEndian.Uint32(header[4:]); seq != f.seq {
		return 0, nil, fmt.Errorf("read header of frame %d: %w: it has number %d", f.seq, errCorrupt, seq)
	}
	n := binary.BigEndian.Uint32(header[8:])
	if n > maxPayload {
		return 0, nil, fmt.Errorf("read header of frame %d: %w: length %d exceeds %d", f.seq, errCorrupt, n, maxPayload)
	}
	whole := f.buf[:headerLen+int(n)+crcLen]
	if _, err := io.ReadFull(f.r, whole[headerLen:]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, fmt.Errorf("read payload of frame %d: %w", f.seq, err)
	}
	body, sum := whole[:headerLen+int(n)], binary.BigEndian.Uint32(whole[headerLen+int(n):])
	if got := crc32.ChecksumIEEE(body); got != sum {
		return 0, nil, fmt.Errorf("read payload of frame %d: %w: CRC is %08x, want %08x", f.seq, errCorrupt, got, sum)
	}
	f.seq++
	return frameType(header[2]), body[headerLen:], nil
}
