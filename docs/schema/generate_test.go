package schema

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/invopop/jsonschema"

	"github.com/pmtulab/pmtulab/topology"
)

// generator makes schemas of Go types: names and shapes by reflection,
// descriptions from doc comments, lists of allowed words from constants.
type generator struct {
	jsonschema.Reflector
	// words are the constants of each type of strings, in their order.
	words map[string][]any
}

// newGenerator is for the types of the given packages of this module, whose
// fields are named by tag.
func newGenerator(t testing.TB, tag string, packages ...string) *generator {
	t.Helper()
	g := &generator{words: map[string][]any{}}
	g.Anonymous, g.ExpandedStruct, g.FieldNameTag = true, true, tag
	g.Mapper, g.LookupComment = g.scalar, g.comment
	for _, dir := range packages {
		dir = filepath.Join("../..", dir)
		if err := g.AddGoComments("github.com/pmtulab/pmtulab/docs/schema", dir, jsonschema.WithFullComment()); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			g.readWords(parsed)
		}
	}
	return g
}

// readWords notes the constants of a file that are strings of a named type.
func (g *generator) readWords(file *ast.File) {
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		kind, named := spec.Type.(*ast.Ident)
		if value, literal := spec.Values[0].(*ast.BasicLit); named && literal && value.Kind == token.STRING {
			if word, err := strconv.Unquote(value.Value); err == nil {
				name := file.Name.Name + "." + kind.Name
				g.words[name] = append(g.words[name], word)
			}
		}
		return true
	})
}

// generate is the schema of T, narrowed by rules. A rule is for a type and a
// key, "End.mtu", or for a type as a whole.
func generate[T any](g *generator, title string, rules map[string]rule) (*jsonschema.Schema, error) {
	root := g.Reflect(new(T))
	root.Title = title
	types := map[string]*jsonschema.Schema{reflect.TypeFor[T]().Name(): root}
	for name, s := range root.Definitions {
		types[name] = s
	}
	for name, narrow := range rules {
		kind, key, _ := strings.Cut(name, ".")
		target, ok := types[kind]
		if ok && key != "" {
			target, ok = target.Properties.Get(key)
		}
		if !ok {
			return nil, fmt.Errorf("there is a rule for %s, which does not exist", name)
		}
		narrow(target)
	}
	for _, s := range types {
		s.Description = unwrapped(s.Description)
		for p := s.Properties.Oldest(); p != nil; p = p.Next() {
			p.Value.Description = unwrapped(p.Value.Description)
		}
	}
	return root, nil
}

// unwrapped is a comment without the line breaks of its source.
func unwrapped(comment string) string {
	return regexp.MustCompile(`([^\n])\n([^\n])`).ReplaceAllString(comment, "$1 $2")
}

// comment is the doc comment of a field that has none of its own: that of a
// field before it that names it as well, or that of its type.
func (g *generator) comment(t reflect.Type, field string) string {
	if t.Kind() != reflect.Struct || field == "" {
		return ""
	}
	prefix := t.PkgPath() + "." + t.Name() + "."
	if g.CommentMap[prefix+field] != "" {
		return ""
	}
	named := regexp.MustCompile(`(^|[.;] |\band )` + field + `\b`)
	for i := range t.NumField() {
		if comment := g.CommentMap[prefix+t.Field(i).Name]; named.MatchString(comment) {
			return comment
		}
	}
	f, _ := t.FieldByName(field)
	of := f.Type
	for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
		of = of.Elem()
	}
	return g.CommentMap[of.PkgPath()+"."+of.Name()]
}

// scalar is the schema of what is written as a single value; nil for others.
func (g *generator) scalar(t reflect.Type) *jsonschema.Schema {
	if words := g.words[t.String()]; t.Kind() == reflect.String && words != nil {
		return &jsonschema.Schema{Type: "string", Enum: words}
	}
	switch t {
	case reflect.TypeFor[time.Duration]():
		return text(`\+?(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+`, "write a number and a unit, such as 200ms or 10s")
	case reflect.TypeFor[topology.Destination]():
		return text("default|"+ipv4+"(/"+prefixLength+")?", "write default, a prefix like 10.1.0.0/16, or an address")
	case reflect.TypeFor[netip.Addr](), reflect.TypeFor[netip.Prefix](), reflect.TypeFor[netip.AddrPort]():
		return g.address(t)
	}
	switch t.Kind() {
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		s := &jsonschema.Schema{Type: "integer"}
		between(0, 1<<t.Bits()-1)(s)
		return s
	default:
		return nil
	}
}

const (
	octet        = `(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])`
	ipv4         = octet + `(\.` + octet + `){3}`
	prefixLength = `(3[0-2]|[12]?[0-9])`
	port         = `(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})`
)

// address is an address as networks have it; results have whatever was seen,
// and "" for what was not.
func (g *generator) address(t reflect.Type) *jsonschema.Schema {
	if g.FieldNameTag == "json" {
		return &jsonschema.Schema{Type: "string"}
	}
	switch t {
	case reflect.TypeFor[netip.Prefix]():
		return text(ipv4+"/"+prefixLength, "write an IPv4 address with the prefix length of its subnet, such as 10.0.0.1/24")
	case reflect.TypeFor[netip.AddrPort]():
		return text(ipv4+":"+port, `write an IPv4 address with port, such as "10.0.0.2:443"`)
	default:
		return text(ipv4, "write an IPv4 address, such as 10.0.0.1")
	}
}

// text is a string of which the pattern matches the whole; editors show the
// remedy.
func text(pattern, remedy string) *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Pattern: "^(" + pattern + ")$", Extras: map[string]any{"patternErrorMessage": remedy}}
}

// A setting stands for a number, or for some of a text.
const (
	setting = `\$\(\s*[a-z][a-z0-9-]*\s*([+-]\s*[0-9]{1,6}\s*)?\)`
	number  = `^-?[0-9]*(` + setting + `[0-9]*)+$`
)

// withSettings lets a reference to a setting stand for every single value of s,
// as scenarios do.
func withSettings(s *jsonschema.Schema) {
	what := map[string]string{"integer": "a whole number", "number": "a number", "boolean": "true or false"}[s.Type]
	switch {
	case what != "":
		// The bounds are for numbers alone, the pattern for strings alone.
		s.Extras = map[string]any{
			"type":                []string{s.Type, "string"},
			"patternErrorMessage": "write " + what + ", $(setting), $(setting + N) or $(setting - N)",
		}
		s.Type, s.Pattern = "", number
	case s.Enum != nil:
		s.AnyOf = []*jsonschema.Schema{{Enum: s.Enum}, {Pattern: setting}}
		s.Enum = nil
	case s.Pattern != "":
		s.Pattern += "|" + setting
	case s.Type == "array":
		withSettings(s.Items)
	}
}

// allowSettings is withSettings for all of a scenario but its settings.
func allowSettings(root *jsonschema.Schema) {
	for name, s := range root.Definitions {
		if name == "Setting" {
			continue
		}
		for p := s.Properties.Oldest(); p != nil; p = p.Next() {
			withSettings(p.Value)
		}
	}
	for p := root.Properties.Oldest(); p != nil; p = p.Next() {
		withSettings(p.Value)
	}
}
