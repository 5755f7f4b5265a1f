package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"reflect"
	"strconv"
	"strings"
	"unicode"
)

// MaxSize is how large a JSON form may be, in bytes. A full result of a built-in
// scenario takes a third of a megabyte, a series of a thousand runs 30.
const MaxSize = 64 << 20

// Document is a JSON form of this package that is yet to be decoded. Its errors
// name the file and the place of what is wrong.
type Document struct {
	// Schema is what the document says that it is.
	Schema string
	name   string
	data   []byte
}

// ReadDocument reads a document of at most MaxSize bytes; name is for errors.
func ReadDocument(name string, in io.Reader) (Document, error) {
	d := Document{name: name}
	var err error
	if d.data, err = io.ReadAll(io.LimitReader(in, MaxSize+1)); err != nil {
		return d, fmt.Errorf("read %s: %w", name, err)
	}
	if len(d.data) > MaxSize {
		return d, fmt.Errorf("read %s: larger than %d MiB; results of pmtulab are not", name, MaxSize>>20)
	}
	// The schema is looked at first: of another one, nothing else is known.
	var head struct {
		Schema *string `json:"schema"`
	}
	if err := json.Unmarshal(d.data, &head); err != nil {
		return d, d.placed(err)
	}
	if head.Schema == nil {
		return d, d.placed(errNoSchema)
	}
	d.Schema = *head.Schema
	return d, nil
}

// Decode stores d in the value that v points to. Fields that this program does
// not know are left out. Control characters in texts, which could speak to a
// terminal, are replaced.
func (d Document) Decode(v any) error {
	if err := json.Unmarshal(d.data, v); err != nil {
		return d.placed(err)
	}
	legible(reflect.ValueOf(v).Elem())
	return nil
}

// Unknown is the error of a reader that knows other schemas only.
func (d Document) Unknown(known ...string) error {
	what := fmt.Sprintf("%.80q", d.Schema)
	advice := ""
	name, version := cutVersion(d.Schema)
	for _, k := range known {
		switch own, v := cutVersion(k); {
		case name != own || version < 0:
		case version > v:
			what, advice = d.Schema+", newer than this program", "; use the pmtulab that wrote it, or a newer one"
		default:
			what, advice = d.Schema+", older than this program", "; use the pmtulab that wrote it"
		}
	}
	return fmt.Errorf("read %s: its schema is %s; %s can be read%s", d.name, what, strings.Join(known, " and "), advice)
}

// ReadFile reads a Result from the file path, as Read does.
func ReadFile(path string) (Result, error) {
	f, err := os.Open(path)
	if err != nil {
		return Result{}, fmt.Errorf("read a result: %w", err)
	}
	defer f.Close()
	return Read(path, f)
}

// Read reads the JSON form of a Result, whoever made it; name is for errors.
func Read(name string, in io.Reader) (Result, error) {
	d, err := ReadDocument(name, in)
	if err != nil {
		return Result{}, err
	}
	if d.Schema != Schema {
		return Result{}, d.Unknown(Schema)
	}
	var r Result
	err = d.Decode(&r)
	return r, err
}

// placed tells where in d err is, when it knows.
func (d Document) placed(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	offset := 0
	switch {
	case errors.As(err, &syntax):
		offset = int(syntax.Offset)
	case errors.As(err, &kind) && kind.Field == "":
		offset, err = int(kind.Offset), fmt.Errorf("a JSON %s; this is no result of pmtulab", kind.Value)
	case errors.As(err, &kind):
		offset, err = int(kind.Offset), fmt.Errorf("field %s: a JSON %s does not fit", kind.Field, kind.Value)
	case !errors.Is(err, errNoSchema):
		return fmt.Errorf("read %s: %w", d.name, err)
	}
	offset = min(max(offset, 1), len(d.data)) // of the byte that is wrong, from 1
	before := d.data[:max(0, offset-1)]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := offset - (bytes.LastIndexByte(before, '\n') + 1)
	return fmt.Errorf("read %s: line %d, column %d (byte %d of %d): %w", d.name, line, column, offset, len(d.data), err)
}

var errNoSchema = errors.New(`there is no "schema"; this is no result of pmtulab`)

// cutVersion cuts a schema into its name and its version, -1 for none.
func cutVersion(schema string) (name string, version int) {
	i := strings.LastIndex(schema, "/v")
	if i < 0 {
		return schema, -1
	}
	n, err := strconv.ParseUint(schema[i+2:], 10, 16)
	if err != nil {
		return schema, -1
	}
	return schema[:i], int(n)
}

// legible replaces control characters in every text within v, line feeds and
// tabs left alone.
func legible(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(strings.Map(func(r rune) rune {
			if unicode.IsControl(r) && r != '\n' && r != '\t' {
				return unicode.ReplacementChar
			}
			return r
		}, v.String()))
	case reflect.Pointer:
		if !v.IsNil() {
			legible(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			legible(v.Index(i))
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			value := reflect.New(v.Type().Elem()).Elem()
			value.Set(v.MapIndex(key))
			clean := reflect.New(key.Type()).Elem()
			clean.Set(key)
			legible(value)
			legible(clean)
			v.SetMapIndex(key, reflect.Value{})
			v.SetMapIndex(clean, value)
		}
	case reflect.Struct:
		switch address := v.Interface().(type) { // its zone is a text
		case netip.Addr:
			v.Set(reflect.ValueOf(address.WithZone("")))
		case netip.AddrPort:
			v.Set(reflect.ValueOf(netip.AddrPortFrom(address.Addr().WithZone(""), address.Port())))
		}
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				legible(v.Field(i))
			}
		}
	}
}
