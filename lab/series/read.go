package series

import (
	"fmt"
	"io"

	"github.com/pmtulab/pmtulab/lab/record"
)

// MaxRuns is how many runs a series has at most.
const MaxRuns = 1000

// Read reads a result or a series in its JSON form, whoever made it; a result
// is a series of one. The name is for errors.
func Read(name string, in io.Reader) (record.Series, error) {
	d, err := record.ReadDocument(name, in)
	if err != nil {
		return record.Series{}, err //nolint:wrapcheck // names the file and the place
	}
	return Decode(name, d)
}

// Decode is Read for a document that was read already.
func Decode(name string, d record.Document) (record.Series, error) {
	switch d.Schema {
	case record.Schema:
		var result record.Result
		if err := d.Decode(&result); err != nil {
			return record.Series{}, err //nolint:wrapcheck // as above
		}
		return New(1, []record.Result{result}), nil
	case record.SeriesSchema:
		var s record.Series
		if err := d.Decode(&s); err != nil {
			return record.Series{}, err //nolint:wrapcheck // as above
		}
		if n := len(s.Runs); n == 0 || n > MaxRuns {
			return record.Series{}, fmt.Errorf("read %s: a series of %d runs; 1 to %d are wanted", name, n, MaxRuns)
		}
		read := New(max(s.Wanted, len(s.Runs)), s.Runs)
		read.Duration, read.Phases = s.Duration, s.Phases
		return read, nil
	default:
		return record.Series{}, d.Unknown(record.Schema, record.SeriesSchema) //nolint:wrapcheck // as above
	}
}
