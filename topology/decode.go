// Strict decoding of a YAML document into Go values: unknown keys, wrong types
// and values out of range are all reported, not only the first.

package topology

import (
	"encoding"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Document is a YAML file that was read and is not decoded yet. It holds values
// with their places, so that several readers can look at it and all their
// problems are reported together.
type Document struct {
	file string
	// root is nil when there is nothing to work with.
	root     *value
	problems Problems
}

// Read reads the one YAML document of data; file is its name for problems,
// which Decode returns. Anchors and aliases are understood; tags and merge keys
// are not. Documents of more than 1 MiB, with lines of more than 8 KiB, or that
// nest or multiply beyond reason, are refused.
func Read(file string, data []byte) *Document {
	root, problems := parseTree(file, data)
	return &Document{file, root, problems}
}

// Readable tells whether there is a mapping, at least in part.
func (d *Document) Readable() bool { return d.root != nil && d.root.kind == mapping }

// Has tells whether the document is a mapping with the key.
func (d *Document) Has(key string) bool {
	return d.Readable() && slices.ContainsFunc(d.root.fields, func(f field) bool { return f.key == key })
}

// Expand replaces every single value (not the keys) of the document by what f
// makes of it. path is like $.nodes[0].name. Where f fails the value is not
// decoded, and the error is its problem.
func (d *Document) Expand(f func(path, text string) (string, error)) {
	if d.root != nil {
		d.expand(d.root, "$", f, map[*value]bool{})
	}
}

// expand visits each value once, though aliases share what is below them.
func (d *Document) expand(v *value, path string, f func(path, text string) (string, error), done map[*value]bool) {
	if done[v] {
		return
	}
	done[v] = true
	if v.kind == scalar {
		text, err := f(path, v.text)
		if err != nil {
			v.kind = broken
			d.problems = append(d.problems, Problem{File: d.file, Line: v.at.line, Column: v.at.column, Path: path, What: err.Error()})
			return
		}
		v.text = text
	}
	for i, element := range v.items {
		d.expand(element, item(path, i), f, done)
	}
	for _, member := range v.fields {
		d.expand(member.value, child(path, member.key), f, done)
	}
}

// Decode fills v, a pointer to a struct, and returns every problem of the
// document so far; values without a problem are set in either case.
//
// Structs are mappings whose keys are the yaml tags; slices, arrays (of exactly
// their length), pointers, maps with string keys, strings, integers, floats and
// booleans are what they look like. A time.Duration is written "200ms", a type
// that implements encoding.TextUnmarshaler as its text. A string takes any
// single value as it is written, so that a sysctl may be 1 or "1".
//
// v must not hold interfaces, channels or functions: Decode panics on them.
func (d *Document) Decode(v any) Problems {
	if d.root == nil {
		return d.problems
	}
	return d.decode(d.root, "$", v).Join(nil)
}

// DecodeKey fills v, a pointer, from one key of the document's mapping; it does
// nothing when there is no such key. Problems are left to Decode.
func (d *Document) DecodeKey(key string, v any) {
	if !d.Readable() {
		return
	}
	for _, f := range d.root.fields {
		if f.key == key {
			_ = d.decode(f.value, child("$", key), v)
		}
	}
}

func (d *Document) decode(from *value, path string, v any) Problems {
	decoder := &decoder{builder{file: d.file, problems: slices.Clone(d.problems)}}
	decoder.into(from, path, reflect.ValueOf(v).Elem())
	return decoder.problems
}

// Check validates a Spec that was decoded from prefix, such as "$.topology", and
// returns the problems with their places. unread is what Decode returned: where
// some of the Spec could not be read, nothing is called missing.
func (d *Document) Check(s Spec, prefix string, unread Problems) Problems {
	var within Problems
	for _, p := range unread {
		if path, ok := strings.CutPrefix(p.Path, prefix); ok {
			within = append(within, Problem{Path: "$" + path})
		}
	}
	return d.Locate(append(s.validate(within), d.writtenZeros(s, prefix)...), prefix)
}

// Locate gives problems that have only a path their place in the document.
// prefix is where the checked value sits in it: "$" for the whole document,
// "$.topology" for a topology within a scenario; the paths are prefixed
// likewise. A path that the document does not have (a missing key, a default)
// gets the place of the nearest value around it.
func (d *Document) Locate(p Problems, prefix string) Problems {
	places, located := d.places(), slices.Clone(p)
	for i := range located {
		problem := &located[i]
		problem.File = d.file
		problem.Path = prefix + strings.TrimPrefix(problem.Path, "$")
		for path := problem.Path; path != ""; path = parent(path) {
			if at, ok := places[path]; ok {
				problem.Line, problem.Column = at.line, at.column
				break
			}
		}
	}
	return located.Join(nil)
}

// places are those of all values, by path.
func (d *Document) places() map[string]place {
	places := map[string]place{}
	if d.root != nil {
		d.root.index("$", places)
	}
	return places
}

// decoder fills Go values from a tree and collects problems.
type decoder struct{ builder }

// into sets target, which is addressable, from v.
func (d *decoder) into(v *value, path string, target reflect.Value) {
	switch v.kind {
	case broken:
		return
	case null:
		d.problem(v.at, path, fmt.Sprintf("%s has no value", last(path)), "write one, or leave the key out")
		return
	}
	if target.Kind() == reflect.Pointer {
		target.Set(reflect.New(target.Type().Elem()))
		d.into(v, path, target.Elem())
		return
	}
	if read := scalarReader(target); read != nil {
		if d.expect(v, path, scalar) {
			if remedy, ok := read(v); !ok {
				d.problem(v.at, path, fmt.Sprintf("%s: %s is not %s", last(path), quote(v.text), describe(target.Type())), remedy)
			}
		}
		return
	}
	switch target.Kind() {
	case reflect.Struct:
		if d.expect(v, path, mapping) {
			d.structure(v, path, target)
		}
	case reflect.Map:
		if d.expect(v, path, mapping) && len(v.fields) > 0 {
			target.Set(reflect.MakeMapWithSize(target.Type(), len(v.fields)))
			for _, f := range v.fields {
				element := reflect.New(target.Type().Elem()).Elem()
				d.into(f.value, child(path, f.key), element)
				target.SetMapIndex(reflect.ValueOf(f.key).Convert(target.Type().Key()), element)
			}
		}
	case reflect.Slice:
		if d.expect(v, path, list) && len(v.items) > 0 {
			target.Set(reflect.MakeSlice(target.Type(), len(v.items), len(v.items)))
			d.elements(v, path, target)
		}
	case reflect.Array:
		if !d.expect(v, path, list) {
			return
		}
		if len(v.items) != target.Len() {
			d.problem(v.at, path, fmt.Sprintf("%s has %s", last(path), count(len(v.items), "element")), fmt.Sprintf("write exactly %d", target.Len()))
			return
		}
		d.elements(v, path, target)
	default:
		panic("topology.Document: unsupported type " + target.Type().String())
	}
}

func (d *decoder) elements(v *value, path string, target reflect.Value) {
	for i, element := range v.items {
		d.into(element, item(path, i), target.Index(i))
	}
}

// structure sets the fields of a struct by their yaml tags.
func (d *decoder) structure(v *value, path string, target reflect.Value) {
	var keys []string
	byKey := map[string]reflect.Value{}
	for i := range target.NumField() {
		if key := yamlKey(target.Type().Field(i)); key != "" {
			keys = append(keys, key)
			byKey[key] = target.Field(i)
		}
	}
	for _, f := range v.fields {
		below := child(path, f.key)
		if member, ok := byKey[f.key]; ok {
			d.into(f.value, below, member)
		} else {
			d.problem(f.at, below, fmt.Sprintf("unknown key %q", f.key), Allowed(f.key, keys...))
		}
	}
}

// expect reports a value of another shape than the wanted one.
func (d *decoder) expect(v *value, path string, want kind) bool {
	if v.kind == want {
		return true
	}
	remedy := fmt.Sprintf("write %v", want)
	if want == scalar && v.kind == mapping {
		// In brackets the library takes the colons of fe80::1 for a mapping's.
		remedy += ", in quotes when it has a colon"
	}
	d.problem(v.at, path, fmt.Sprintf("%s is %v", last(path), v.kind), remedy)
	return false
}

// yamlKey is the key of a struct field, "" when it has none.
func yamlKey(f reflect.StructField) string {
	tag, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	switch {
	case !f.IsExported() || tag == "-":
		return ""
	case tag == "":
		return strings.ToLower(f.Name)
	default:
		return tag
	}
}

// last is the last step of a path, as people name the value.
func last(path string) string {
	if path == "$" {
		return "the document"
	}
	step := path[len(parent(path)):]
	if strings.HasPrefix(step, "[") && !strings.HasPrefix(step, "['") {
		above := parent(path)
		return strings.TrimPrefix(above[len(parent(above)):], ".") + step
	}
	if i := strings.LastIndex(path, "['"); i >= 0 && strings.HasSuffix(path, "']") {
		return path[i+2 : len(path)-2]
	}
	return strings.TrimPrefix(step, ".")
}

// scalarReader is the function that sets target from a single value, nil when
// target is not written as one. The function returns a remedy when it fails.
func scalarReader(target reflect.Value) func(*value) (remedy string, ok bool) {
	switch t := target.Addr().Interface().(type) {
	case *time.Duration:
		return func(v *value) (string, bool) {
			parsed, err := time.ParseDuration(v.text)
			*t = parsed
			return "write a number and a unit, such as 200ms or 10s", err == nil
		}
	case encoding.TextUnmarshaler:
		return func(v *value) (string, bool) {
			err := t.UnmarshalText([]byte(v.text))
			return textRemedy(target.Type(), v.text), err == nil && v.text != ""
		}
	}
	switch target.Kind() {
	case reflect.String:
		return func(v *value) (string, bool) {
			target.SetString(v.text)
			return "", true
		}
	case reflect.Bool:
		return func(v *value) (string, bool) {
			target.SetBool(v.text == "true")
			return "write true or false", !v.quoted && (v.text == "true" || v.text == "false")
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return func(v *value) (string, bool) {
			parsed, err := strconv.ParseInt(v.text, 10, target.Type().Bits())
			target.SetInt(parsed)
			return numberRemedy(v), err == nil && decimal(v)
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return func(v *value) (string, bool) {
			parsed, err := strconv.ParseUint(v.text, 10, target.Type().Bits())
			target.SetUint(parsed)
			return numberRemedy(v), err == nil && decimal(v)
		}
	case reflect.Float32, reflect.Float64:
		return func(v *value) (string, bool) {
			parsed, err := strconv.ParseFloat(v.text, target.Type().Bits())
			target.SetFloat(parsed)
			return numberRemedy(v), err == nil && !v.quoted
		}
	default:
		return nil
	}
}

// decimal tells whether a whole number is the same to all readers: 010 is 8 to
// some.
func decimal(v *value) bool { return !v.quoted && !leadingZero(v.text) }

func leadingZero(number string) bool {
	digits := strings.TrimLeft(number, "+-")
	return len(digits) > 1 && digits[0] == '0' && strings.Trim(digits, "0123456789") == ""
}

func numberRemedy(v *value) string {
	switch {
	case v.quoted:
		return "write it without quotes"
	case leadingZero(v.text):
		return "write it without leading zeros"
	default:
		return "write a decimal number"
	}
}

// describe names a type in the words of a document.
func describe(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return "a duration"
	case reflect.TypeFor[netip.Addr]():
		return "an IP address"
	case reflect.TypeFor[netip.Prefix]():
		return "an address with prefix length"
	case reflect.TypeFor[netip.AddrPort]():
		return "an address with port"
	case reflect.TypeFor[Destination]():
		return "a destination"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "a boolean"
	case reflect.Uint8, reflect.Uint16:
		return fmt.Sprintf("a whole number of 0–%d", uint64(1)<<t.Bits()-1)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint32, reflect.Uint64:
		return "a whole number"
	case reflect.Float32, reflect.Float64:
		return "a number"
	default:
		return "a " + strings.ToLower(t.Name())
	}
}

// textRemedy shows how a value of the type is written, from what was written
// where that can be seen.
func textRemedy(t reflect.Type, text string) string {
	switch t {
	case reflect.TypeFor[netip.Addr]():
		if p, err := netip.ParsePrefix(text); err == nil {
			return fmt.Sprintf("write it without prefix length: %v", p.Addr())
		}
		return "write it like 10.0.0.1"
	case reflect.TypeFor[netip.Prefix]():
		if a, err := netip.ParseAddr(text); err == nil {
			return fmt.Sprintf("write %v/%d for this address alone, or the prefix length of its subnet", a, a.BitLen())
		}
		return "write it like 10.0.0.1/24"
	case reflect.TypeFor[netip.AddrPort]():
		return `write it like "10.0.0.2:443"`
	case reflect.TypeFor[Destination]():
		return "write default, a prefix like 10.1.0.0/16, or an address"
	default:
		return ""
	}
}
