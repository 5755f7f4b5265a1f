// Reading and writing a Spec as YAML.

package topology

import (
	"bytes"
	"cmp"
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/token"
)

// Parse reads a topology from YAML and validates it. file is the name for
// problems. The error is Problems: all of them, in the order of the document.
// The Spec is as written, without defaults; it is what could be read when
// there is an error.
func Parse(file string, data []byte) (Spec, error) {
	var spec Spec
	document := Read(file, data)
	problems := document.Decode(&spec)
	if document.Readable() {
		problems = problems.Join(document.Check(spec, "$", problems))
	}
	return spec, problems.Err()
}

// YAML writes s such that Parse gives it back: empty values are left out, lists
// and mappings that fit in a line are in one. The error is that of Validate.
func (s Spec) YAML() ([]byte, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("write topology %q as YAML: %w", s.Name, err)
	}
	w := &writer{scalar: regexp.MustCompile(`^[A-Za-z0-9._/-]+$`)}
	w.block(reflect.ValueOf(s), 0)
	return w.Bytes(), nil
}

// lineLength is how long a mapping or list may be to stand in one line.
const lineLength = 100

// writer writes Go values as YAML. The library's encoder leaves out every
// netip value that is marked omitempty, since it sees no exported field.
type writer struct {
	bytes.Buffer
	// scalar matches strings that may need no quotes.
	scalar *regexp.Regexp
}

// entry is one key of a mapping to be written.
type entry struct {
	key   string
	value reflect.Value
}

// block writes a mapping or a list over several lines.
func (w *writer) block(v reflect.Value, indent int) {
	margin := strings.Repeat(" ", indent)
	switch v.Kind() {
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			w.WriteString(margin + "- ")
			if line, ok := w.line(v.Index(i), indent+2); ok {
				w.WriteString(line + "\n")
				continue
			}
			// The first key stands behind the dash.
			start := w.Len()
			w.block(v.Index(i), indent+2)
			text := bytes.Clone(w.Bytes()[start+indent+2:])
			w.Truncate(start)
			w.Write(text)
		}
	default:
		for _, e := range entries(v) {
			w.WriteString(margin + w.quoted(e.key) + ":")
			if line, ok := w.line(e.value, indent+len(e.key)+2); ok && !alwaysBlock(e.value) {
				w.WriteString(" " + line + "\n")
				continue
			}
			w.WriteString("\n")
			w.block(reflect.Indirect(e.value), indent+2)
		}
	}
}

// alwaysBlock tells whether a value reads better in several lines: a list of
// mappings.
func alwaysBlock(v reflect.Value) bool {
	if v.Kind() != reflect.Slice && v.Kind() != reflect.Array {
		return false
	}
	_, single := text(reflect.New(v.Type().Elem()).Elem())
	return !single
}

// line writes v in one line, when it fits behind column.
func (w *writer) line(v reflect.Value, column int) (string, bool) {
	line := w.flow(v)
	return line, column+len(line) <= lineLength && (scalarKind(v) || !nested(v))
}

func scalarKind(v reflect.Value) bool {
	_, ok := text(v)
	return ok
}

// nested tells whether a mapping or list holds a mapping.
func nested(v reflect.Value) bool {
	v = reflect.Indirect(v)
	if v.Kind() == reflect.Slice || v.Kind() == reflect.Array {
		return v.Len() > 0 && !scalarKind(v.Index(0))
	}
	return slices.ContainsFunc(entries(v), func(e entry) bool { return !scalarKind(e.value) && nested(e.value) })
}

// flow writes v in one line, however long.
func (w *writer) flow(v reflect.Value) string {
	if s, ok := text(v); ok {
		return w.quoted(s)
	}
	v = reflect.Indirect(v)
	var parts []string
	if v.Kind() == reflect.Slice || v.Kind() == reflect.Array {
		for i := range v.Len() {
			parts = append(parts, w.flow(v.Index(i)))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	for _, e := range entries(v) {
		parts = append(parts, w.quoted(e.key)+": "+w.flow(e.value))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// entries are the keys of a struct or map that are not empty.
func entries(v reflect.Value) []entry {
	v = reflect.Indirect(v)
	var out []entry
	if v.Kind() == reflect.Map {
		for _, key := range v.MapKeys() {
			out = append(out, entry{key.String(), v.MapIndex(key)})
		}
		slices.SortFunc(out, func(a, b entry) int { return cmp.Compare(a.key, b.key) })
		return out
	}
	for i := range v.NumField() {
		key, member := yamlKey(v.Type().Field(i)), v.Field(i)
		if key == "" || member.IsZero() || member.Kind() == reflect.Slice && member.Len() == 0 || member.Kind() == reflect.Map && member.Len() == 0 {
			continue
		}
		out = append(out, entry{key, member})
	}
	return out
}

// text is a value that is written as a single word.
func text(v reflect.Value) (string, bool) {
	if v.Kind() == reflect.Pointer {
		if s, ok := text(reflect.Zero(v.Type().Elem())); !ok || v.IsNil() {
			return s, ok
		}
		v = v.Elem()
	}
	switch t := v.Interface().(type) {
	case time.Duration:
		return duration(t), true
	case encoding.TextMarshaler:
		b, err := t.MarshalText()
		return string(b), err == nil
	}
	switch v.Kind() {
	case reflect.String:
		return v.String(), true
	case reflect.Bool, reflect.Int, reflect.Uint16:
		return fmt.Sprint(v.Interface()), true
	default:
		return "", false
	}
}

// quoted is s as it can stand anywhere in the document. A string that looks
// like a number or a boolean needs no quotes, since Decode takes strings as
// written.
func (w *writer) quoted(s string) string {
	number, word := strings.Trim(s, "0123456789") == "" && s != "", s == "true" || s == "false"
	if w.scalar.MatchString(s) && (number || word || !token.IsNeedQuoted(s)) {
		return s
	}
	return strconv.Quote(s)
}

// duration is d without trailing zero units: 5m, not 5m0s.
func duration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
