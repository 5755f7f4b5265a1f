// The YAML document as a tree of values with their places. The library parses;
// what a configuration file has no use for (tags, merge keys, several
// documents) is refused here, and so is what only an attacker writes.

package topology

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	// maxDocument is the size of the largest document that is read, in bytes.
	maxDocument = 1 << 20
	// maxLine bounds a line, in bytes: the library takes time that grows with
	// the square of a line's length, minutes for 256 KiB.
	maxLine = 8 << 10
	// maxDepth bounds how deep values nest: the library's parser recurses.
	maxDepth = 64
	// maxValues bounds the document with every alias written out, so that a
	// few lines of aliases of aliases cannot stand for billions of values.
	maxValues = 100_000
	// maxKey is the length of the longest key in bytes: paths are made of them.
	maxKey = 128
)

// kind is the shape of a value.
type kind int

const (
	// broken is a value that has its problem already.
	broken kind = iota
	null
	scalar
	list
	mapping
)

func (k kind) String() string {
	return [...]string{"not readable", "nothing", "a single value", "a list", "a mapping"}[k]
}

// place is a position in a document, both from 1.
type place struct{ line, column int }

// value is one YAML value. Aliases share what is below their anchor, so the
// tree has no cycle but may be larger than the document.
type value struct {
	kind kind
	at   place
	// text is a scalar as it is written, without quotes; quoted tells that it
	// had some or was a block, and is a string whatever it looks like.
	text   string
	quoted bool
	items  []*value
	fields []field
	// size counts the values that this one stands for, itself included and
	// aliases written out, as far as maxValues.
	size int
}

// field is one key of a mapping.
type field struct {
	key   string
	at    place
	value *value
}

// index notes the place of every value below path.
func (v *value) index(path string, places map[string]place) {
	places[path] = v.at
	for i, element := range v.items {
		element.index(item(path, i), places)
	}
	for _, f := range v.fields {
		f.value.index(child(path, f.key), places)
	}
}

// parseTree reads the one document of data. The value is nil when there is
// none to work with.
func parseTree(file string, data []byte) (*value, Problems) {
	b := &builder{file: file, anchors: map[string]*value{}}
	if len(data) > maxDocument {
		b.problem(place{1, 1}, "$", fmt.Sprintf("the document has %d bytes", len(data)), fmt.Sprintf("at most %d are read", maxDocument))
		return nil, b.problems
	}
	number := 0
	for line := range bytes.Lines(data) {
		if number++; len(line) > maxLine {
			b.problem(place{number, 1}, "$", fmt.Sprintf("the line has %d bytes", len(line)), fmt.Sprintf("break it: at most %d are read", maxLine))
			return nil, b.problems
		}
		if !utf8.Valid(line) {
			before := strings.ToValidUTF8(string(line), "\uffff")
			column := utf8.RuneCountInString(before[:strings.Index(before, "\uffff")]) + 1
			b.problem(place{number, column}, "$", "the document is not UTF-8 text", "save it in UTF-8")
			return nil, b.problems
		}
	}
	// Some editors begin a file with a byte order mark.
	node := b.parse(strings.TrimPrefix(string(data), "\ufeff"))
	if node == nil {
		return nil, b.problems
	}
	root := b.value(node, "$")
	if root.size >= maxValues {
		b.problem(root.at, "$", fmt.Sprintf("the document stands for more than %d values", maxValues), "use fewer aliases")
		return nil, b.problems
	}
	return root, b.problems
}

// builder makes the tree of one document.
type builder struct {
	file     string
	anchors  map[string]*value
	problems Problems
}

func (b *builder) problem(at place, path, what, remedy string) {
	b.problems = append(b.problems, Problem{
		File: b.file, Line: at.line, Column: at.column, Path: path, What: what, Remedy: remedy,
	})
}

// parse runs the library's parser. It returns nil after a problem.
func (b *builder) parse(text string) (node ast.Node) {
	// The library panics on some malformed documents; its fuzzers find new
	// ones now and then. A document must never end the program.
	defer func() {
		if r := recover(); r != nil {
			b.problem(place{}, "$", fmt.Sprintf("the YAML parser gave up: %v", r), "check the syntax")
			node = nil
		}
	}()
	tokens := lexer.Tokenize(text)
	if at, deep := tooDeep(tokens); deep {
		b.problem(at, "$", fmt.Sprintf("values nest deeper than %d levels", maxDepth), "")
		return nil
	}
	parsed, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		var syntax yaml.Error
		at, what := place{}, err.Error()
		if errors.As(err, &syntax) {
			at, what = tokenPlace(syntax.GetToken()), syntax.GetMessage()
		}
		if indentedByTab(text, at.line) {
			b.problem(place{at.line, 1}, "$", "a tab indents the line", "indent with spaces")
			return nil
		}
		b.problem(at, "$", "YAML syntax: "+what, "check colons, quotes, brackets and indentation, here and just above")
		return nil
	}
	var bodies []ast.Node
	for _, document := range parsed.Docs {
		if body := document.Body; body != nil && body.Type() != ast.CommentType && body.Type() != ast.DirectiveType {
			bodies = append(bodies, body)
		}
	}
	switch len(bodies) {
	case 0:
		b.problem(place{1, 1}, "$", "the document is empty", "")
		return nil
	case 1:
		return bodies[0]
	default:
		b.problem(nodePlace(bodies[1]), "$", "the file holds more than one document", "keep one document in a file")
		return nil
	}
}

// indentedByTab tells whether a tab is in the indentation of a line, from 1.
func indentedByTab(text string, number int) bool {
	for line := range strings.Lines(text) {
		if number--; number == 0 {
			return strings.Contains(line[:len(line)-len(strings.TrimLeft(line, " \t"))], "\t")
		}
	}
	return false
}

// tooDeep finds nesting that would make the parser recurse without bound:
// brackets, and the indicators that nest within one line ("- - - -").
// Everything else nests by indentation, which costs the writer a line and a
// growing indent for each level.
func tooDeep(tokens token.Tokens) (place, bool) {
	brackets, inLine, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			inLine, line = 0, t.Position.Line
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			brackets++
		case token.SequenceEndType, token.MappingEndType:
			brackets--
		case token.SequenceEntryType, token.MappingKeyType, token.AnchorType, token.TagType:
			inLine++
		case token.MappingValueType:
			if brackets <= 0 {
				inLine++
			}
		case token.CollectEntryType:
			inLine = 0
		default:
		}
		if brackets > maxDepth || inLine > maxDepth {
			return tokenPlace(t), true
		}
	}
	return place{}, false
}

// value turns one node of the library's tree into ours. It never returns nil.
func (b *builder) value(node ast.Node, path string) *value {
	v := &value{at: nodePlace(node), size: 1}
	switch n := node.(type) {
	case *ast.AnchorNode:
		inner := b.value(n.Value, path)
		// Registered after its value, so that an anchor cannot contain itself.
		b.anchors[n.Name.GetToken().Value] = inner
		return inner
	case *ast.AliasNode:
		name := n.Value.GetToken().Value
		anchored, ok := b.anchors[name]
		if !ok {
			b.problem(v.at, path, fmt.Sprintf("alias *%s has no anchor &%s above it", name, name), "")
			return v
		}
		alias := *anchored
		alias.at = v.at
		return &alias
	case *ast.TagNode:
		b.problem(v.at, path, fmt.Sprintf("tag %s is not supported", n.Start.Value), "leave it out")
		return v
	case *ast.NullNode:
		v.kind = null
	case *ast.SequenceNode:
		v.kind = list
		for i, element := range n.Values {
			below := b.value(element, item(path, i))
			v.items = append(v.items, below)
			v.size = min(v.size+below.size, maxValues)
		}
	case *ast.MappingNode:
		v.kind = mapping
		b.fields(v, n.Values, path)
	case *ast.MappingValueNode:
		v.kind = mapping
		b.fields(v, []*ast.MappingValueNode{n}, path)
	case *ast.LiteralNode:
		v.kind, v.text, v.quoted = scalar, n.Value.Value, true
	case *ast.StringNode:
		t := n.GetToken().Type
		v.kind, v.text = scalar, n.Value
		v.quoted = t == token.SingleQuoteType || t == token.DoubleQuoteType
	case ast.ScalarNode: // numbers and booleans: as they are written
		v.kind, v.text = scalar, node.GetToken().Value
	default:
		b.problem(v.at, path, fmt.Sprintf("YAML %s is not supported", strings.ToLower(node.Type().String())), "leave it out")
	}
	return v
}

// fields adds the entries of a mapping to v.
func (b *builder) fields(v *value, entries []*ast.MappingValueNode, path string) {
	seen := make(map[string]place, len(entries))
	for _, entry := range entries {
		at := nodePlace(entry.Key)
		key, ok := keyText(entry.Key)
		if !ok {
			b.problem(at, path, "a key must be a plain word", "write merged or nested keys out")
			continue
		}
		if len(key) > maxKey {
			b.problem(at, path, fmt.Sprintf("a key has %d bytes", len(key)), fmt.Sprintf("at most %d are allowed", maxKey))
			continue
		}
		below := child(path, key)
		if first, twice := seen[key]; twice {
			b.problem(at, below, fmt.Sprintf("key %q is there twice", key), fmt.Sprintf("the first is in line %d", first.line))
			continue
		}
		seen[key] = at
		member := b.value(entry.Value, below)
		v.fields = append(v.fields, field{key: key, at: at, value: member})
		v.size = min(v.size+member.size, maxValues)
	}
}

// keyText is the text of a plain or quoted key.
func keyText(key ast.MapKeyNode) (string, bool) {
	switch n := key.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		return key.GetToken().Value, true
	default:
		return "", false
	}
}

// nodePlace is where a node begins; the library's token of a block mapping is
// the colon behind its first key.
func nodePlace(node ast.Node) place {
	switch n := node.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return nodePlace(n.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return nodePlace(n.Key)
	}
	return tokenPlace(node.GetToken())
}

func tokenPlace(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{}
	}
	return place{t.Position.Line, t.Position.Column}
}
