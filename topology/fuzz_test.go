package topology

import (
	"errors"
	"testing"
	"time"
)

// Whatever the document is, Parse returns in time: with Problems, or with a
// Spec that is written and read back unchanged, drawn, and stable under
// WithDefaults.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/*.yaml", "testdata/draw/*.yaml", "testdata/bad/*.yaml"} {
		for _, file := range glob(f, pattern) {
			f.Add(read(f, file))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		start := time.Now()
		spec, err := Parse("x.yaml", data)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("Parse took %v", took)
		}
		spec.Draw()
		checkXML(t, spec.SVG())
		checkMermaid(t, spec.Mermaid())
		if err != nil {
			if problems, ok := errors.AsType[Problems](err); !ok || len(problems) == 0 {
				t.Errorf("Parse = %#v, want Problems", err)
			}
			return
		}
		roundTrip(t, spec)
		roundTrip(t, spec.WithDefaults())
		checkDrawings(t, spec)
	})
}
