package main

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"runtime/debug"

	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/report"
)

// maxCapture bounds the capture file of a run in bytes. None comes near it: the
// packets take 32 MiB while the run lasts, and less in the file.
const maxCapture = 34 << 20

// captureFile is the file of a run's packets as it comes from a guest, piece by
// piece.
type captureFile struct {
	bytes.Buffer
	// missing counts bytes beyond maxCapture.
	missing int
}

// add takes a piece over; the first of a run begins a file.
func (f *captureFile) add(p piece) {
	if p.First {
		*f = captureFile{}
	}
	if f.missing > 0 || f.Len()+len(p.Blocks) > maxCapture {
		f.missing += len(p.Blocks)
		return
	}
	f.Write(p.Blocks)
}

// piece is some blocks of a capture file.
type piece struct {
	First  bool   `json:"first,omitempty"`
	Blocks []byte `json:"blocks"`
}

// pieces sends what is written to it, several writes at a time, and no write in
// parts: what has come over by any moment is a file. The caller flushes it.
type pieces struct {
	send func(piece)
	next piece
}

func newPieces(send func(piece)) *pieces {
	return &pieces{send: send, next: piece{First: true}}
}

func (p *pieces) Write(block []byte) (int, error) {
	const enough = 16 << 10
	p.next.Blocks = append(p.next.Blocks, block...)
	if len(p.next.Blocks) >= enough {
		p.flush()
	}
	return len(block), nil
}

func (p *pieces) flush() {
	if len(p.next.Blocks) == 0 {
		return
	}
	p.send(p.next)
	p.next = piece{Blocks: p.next.Blocks[:0]}
}

// application is this program and its version, as far as the build tells.
func application() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return "pmtulab " + info.Main.Version
	}
	return "pmtulab"
}

// writeCapture writes the packets that were seen in a run.
func writeCapture(w io.Writer, r record.Result, seen record.Capture) error {
	return report.Capture(w, r, seen, application()) //nolint:wrapcheck // says what it was writing
}

// saveCapture writes the capture of an outcome into the directory dir, if there
// is one.
func (o *outcome) saveCapture(dir string) error {
	if dir == "" {
		return nil
	}
	return writeFile(filepath.Join(dir, "capture.pcapng"), o, func(w io.Writer, o *outcome) error { return o.writeCapture(w) })
}

// writeCapture writes the capture of an outcome. A run that was not seen has
// one without packets, in which a comment says why.
func (o *outcome) writeCapture(w io.Writer) error {
	if o.capture.Len() == 0 {
		return writeCapture(w, o.results[len(o.results)-1], record.Capture{})
	}
	if _, err := w.Write(o.capture.Bytes()); err != nil {
		return fmt.Errorf("write the capture: %w", err)
	}
	return nil
}
