package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/gopacket/gopacket/pcapgo"

	"github.com/pmtulab/pmtulab/lab/record"
)

// What a capture is written in arrives, in the same blocks, in pieces of some
// size; a second file takes the place of the first.
func TestCaptureInPieces(t *testing.T) {
	var got captureFile
	for _, lengths := range [][]int{{4, 100, 20_000, 16, 16_000, 500}, {8}, {40, 40}} {
		var want bytes.Buffer
		ends := map[int]bool{}
		p := newPieces(func(p piece) {
			data, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			var sent piece
			if err := json.Unmarshal(data, &sent); err != nil {
				t.Fatal(err)
			}
			got.add(sent)
			if !ends[got.Len()] {
				t.Errorf("a piece ends at byte %d, within a block", got.Len())
			}
		})
		for i, n := range lengths {
			block := bytes.Repeat([]byte{byte(i + 1)}, n)
			want.Write(block)
			ends[want.Len()] = true
			if _, err := p.Write(block); err != nil {
				t.Fatal(err)
			}
		}
		p.flush()
		if !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Errorf("blocks of %v bytes: %d bytes arrived, which differ", lengths, got.Len())
		}
	}
}

// A run that nobody saw has a capture all the same, which says why.
func TestCaptureOfNothing(t *testing.T) {
	made := outcome{results: []record.Result{{Verdict: record.Error, Reasons: []string{"the guest did not boot"}}}}
	var file bytes.Buffer
	if err := made.writeCapture(&file); err != nil {
		t.Fatal(err)
	}
	r, err := pcapgo.NewNgReader(&file, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	if comment := r.SectionInfo().Comment; !strings.Contains(comment, "the guest did not boot") {
		t.Errorf("comment %q", comment)
	}
	if _, _, err := r.ReadPacketData(); !errors.Is(err, io.EOF) {
		t.Errorf("a packet, error %v", err)
	}
}

func TestCaptureIsBounded(t *testing.T) {
	var f captureFile
	whole := make([]byte, 10<<20)
	for range 4 {
		f.add(piece{Blocks: whole})
	}
	f.add(piece{Blocks: whole[:1]}) // what is missing is the end, not the middle
	if f.Len() != 30<<20 || f.missing != 10<<20+1 {
		t.Errorf("%d bytes, %d missing", f.Len(), f.missing)
	}
	f.add(piece{First: true, Blocks: whole[:1]})
	if f.Len() != 1 || f.missing != 0 {
		t.Errorf("after the first piece of the next: %d bytes, %d missing", f.Len(), f.missing)
	}
}
