package evidence

import (
	"bytes"
	"fmt"
	"testing"
)

func TestFramesKeepCopies(t *testing.T) {
	f := newFrames(100, false)
	ring := make([]byte, 200)
	var kept [][]byte
	for i := range 3 * frameBlock / 100 { // more than one block
		copy(ring, fmt.Sprintf("frame %d", i))
		kept = append(kept, f.keep(ring))
	}
	for i, got := range kept {
		want := make([]byte, 100)
		copy(want, fmt.Sprintf("frame %d", i))
		if !bytes.Equal(got, want) {
			t.Fatalf("frame %d is %q", i, got)
		}
		_ = append(got, "overwrites the next?"...)
	}
	if f.omitted != 0 {
		t.Errorf("%d omitted", f.omitted)
	}
}

func TestFramesAreBounded(t *testing.T) {
	const snap = 60 << 10
	f := newFrames(snap, false)
	taken, frame := 0, make([]byte, snap)
	for f.omitted == 0 {
		if data := f.keep(frame); data != nil {
			taken += len(data) + frameMemory
		}
	}
	if taken > framesMemory || taken+snap+frameMemory <= framesMemory {
		t.Errorf("%d bytes taken of %d", taken, framesMemory)
	}
	if data := f.keep(frame[:1]); data == nil {
		t.Error("a small frame had room and was not kept")
	}
}
