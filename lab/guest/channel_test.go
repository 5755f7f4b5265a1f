package guest

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
)

// sample is a stream of three frames.
func sample(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w := newFrameWriter(&b)
	for _, f := range []struct {
		t       frameType
		payload string
	}{{frameHello, protocolVersion}, {frameStdout, "a\x00\xff\n"}, {frameExit, ""}} {
		if err := w.write(f.t, []byte(f.payload)); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func TestFramesArriveAsWritten(t *testing.T) {
	r := newFrameReader(bytes.NewReader(sample(t)))
	for i, want := range []string{protocolVersion, "a\x00\xff\n", ""} {
		_, payload, err := r.read()
		if err != nil || string(payload) != want {
			t.Errorf("frame %d is %q, %v; want %q", i, payload, err, want)
		}
	}
	if _, _, err := r.read(); !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error at the end is %v, want EOF", err)
	}
}

func TestFrameTooLong(t *testing.T) {
	if err := newFrameWriter(io.Discard).write(frameStdout, make([]byte, maxPayload+1)); err == nil {
		t.Error("a frame of more than maxPayload bytes was written")
	}
}

// Every changed bit, every lost byte and every lost frame is seen.
func TestDamageIsSeen(t *testing.T) {
	whole := sample(t)
	readAll := func(b []byte) error {
		r := newFrameReader(bytes.NewReader(b))
		for n := 0; ; n++ {
			if _, _, err := r.read(); err != nil {
				if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && n == 3 {
					return nil
				}
				return err
			}
		}
	}
	if err := readAll(whole); err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		for bit := range 8 {
			b := slices.Clone(whole)
			b[i] ^= 1 << bit
			if readAll(b) == nil {
				t.Errorf("bit %d of byte %d changed, and nobody saw", bit, i)
			}
		}
		if readAll(slices.Delete(slices.Clone(whole), i, i+1)) == nil {
			t.Errorf("byte %d lost, and nobody saw", i)
		}
		if readAll(whole[:i]) == nil {
			t.Errorf("stream cut at byte %d, and nobody saw", i)
		}
	}
	first := headerLen + len(protocolVersion) + crcLen
	if err := readAll(whole[first:]); !errors.Is(err, errCorrupt) {
		t.Errorf("first frame lost: %v, want %v", err, errCorrupt)
	}
}

func FuzzFrameReader(f *testing.F) {
	f.Add(sample(f))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newFrameReader(bytes.NewReader(b))
		var again bytes.Buffer
		w := newFrameWriter(&again)
		for {
			typ, payload, err := r.read()
			if err != nil {
				break
			}
			if err := w.write(typ, payload); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.HasPrefix(b, again.Bytes()) {
			t.Errorf("what was read is not what stands there: % x", b)
		}
	})
}
