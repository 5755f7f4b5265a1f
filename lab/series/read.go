package series

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/pmtulab/pmtulab/lab/record"
)

// MaxRuns is how many runs a series has at most.
const MaxRuns = 1000

// maxSize bounds what Read takes, in bytes: twice what so many runs need.
const maxSize = 64 << 20

// Read reads a result or a series in its JSON form, whoever made it; a result
// is a series of one. The errors say what is wrong with it, and the caller names
// the file.
func Read(r io.Reader) (record.Series, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxSize+1))
	if err != nil {
		return record.Series{}, err //nolint:wrapcheck // the caller names the file
	}
	if len(data) > maxSize {
		return record.Series{}, fmt.Errorf("larger than %d MiB", maxSize>>20)
	}
	var head struct {
		Schema string `json:"schema"`
	}
	if err := decode(data, &head); err != nil {
		return record.Series{}, err
	}
	switch head.Schema {
	case record.Schema:
		var result record.Result
		err := decode(data, &result)
		return New(1, []record.Result{result}), err
	case record.SeriesSchema:
		var s record.Series
		if err := decode(data, &s); err != nil {
			return record.Series{}, err
		}
		if n := len(s.Runs); n == 0 || n > MaxRuns {
			return record.Series{}, fmt.Errorf("a series of %d runs; 1 to %d are wanted", n, MaxRuns)
		}
		return New(max(s.Wanted, len(s.Runs)), s.Runs), nil
	default:
		return record.Series{}, fmt.Errorf("its schema is %q; %s or %s is wanted, as pmtulab run --out writes them", head.Schema, record.Schema, record.SeriesSchema)
	}
}

// decode is json.Unmarshal with the place in its errors.
func decode(data []byte, v any) error {
	err := json.Unmarshal(data, v)
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("not JSON: %w, %s", err, position(data, syntax.Offset))
	case errors.As(err, &typ):
		return fmt.Errorf("%s is a %s, %s", typ.Field, typ.Value, position(data, typ.Offset))
	case err != nil:
		return fmt.Errorf("not a result: %w", err)
	}
	return nil
}

// position is where offset is in a text.
func position(data []byte, offset int64) string {
	line, column := 1, 1
	for _, b := range data[:min(max(offset-1, 0), int64(len(data)))] {
		column++
		if b == '\n' {
			line, column = line+1, 1
		}
	}
	return fmt.Sprintf("line %d column %d", line, column)
}
