// From a YAML file, with its settings put in, to a Scenario.

package scenario

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pmtulab/pmtulab/scenarios"
	"github.com/pmtulab/pmtulab/topology"
)

// ErrUnknown is the error of a scenario that is neither built in nor a file.
var ErrUnknown = errors.New("no such scenario")

// Names lists the built-in scenarios, sorted.
func Names() []string {
	entries, _ := fs.ReadDir(scenarios.Files, ".") // an embedded folder can be read
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	slices.Sort(names)
	return names
}

// Read returns the YAML of a built-in scenario by name, or of a file.
func Read(ref string) (file string, data []byte, err error) {
	if data, err := scenarios.Files.ReadFile(ref + ".yaml"); err == nil {
		return path.Join("scenarios", ref+".yaml"), data, nil
	}
	data, err = os.ReadFile(ref)
	if errors.Is(err, fs.ErrNotExist) && !strings.ContainsAny(ref, "./") {
		hint := topology.Nearest(ref, Names()...)
		if hint != "" {
			hint = fmt.Sprintf("; did you mean %q?", hint)
		}
		return "", nil, fmt.Errorf("scenario %q: %w; built in: %s%s", ref, ErrUnknown, strings.Join(Names(), ", "), hint)
	}
	if err != nil {
		return "", nil, fmt.Errorf("read the scenario: %w", err)
	}
	return ref, data, nil
}

// Parse reads a scenario with the given settings in force; settings that are
// not given have their defaults. Every problem of the file is reported, as
// topology.Problems; a bad value of set is reported by itself.
func Parse(file string, data []byte, set map[string]string) (Scenario, error) {
	document := topology.Read(file, data)
	var settings []Setting
	document.DecodeKey("settings", &settings)
	base := readBase(document)
	settings = append(settings, base.settings(settings)...)
	values, err := resolve(settings, set)
	if err != nil {
		return Scenario{}, err
	}
	s, problems := decode(document, values)
	s.Values = values
	if !document.Readable() {
		return s, problems.Err() //nolint:wrapcheck // Problems speak for themselves
	}
	checked := document
	if base.document != nil {
		shared, found := decode(base.document, values)
		problems = problems.Join(found)
		if s.Topology.Name == "" && len(s.Topology.Nodes) == 0 {
			s.Topology, checked = shared.Topology, base.document
		}
		if s.Servers == nil {
			s.Servers = shared.Servers
		}
	}
	problems = problems.Join(checked.Check(s.Topology, "$.topology", problems))
	problems = problems.Join(document.Locate(s.validate(), "$"))
	s.Settings = settings    // those of the base too
	return s, problems.Err() //nolint:wrapcheck // Problems speak for themselves
}

// decode is what a document says with the values of its settings put in.
func decode(document *topology.Document, values map[string]int) (Scenario, topology.Problems) {
	document.Expand(func(path, text string) (string, error) {
		if strings.HasPrefix(path, "$.settings") {
			return text, nil
		}
		return expand(text, values)
	})
	var s Scenario
	problems := document.Decode(&s)
	return s, problems
}

// base is the built-in scenario that another shares parts with; the zero value
// is none.
type base struct{ document *topology.Document }

// readBase reads the base that a document names. A name that there is not is
// found by validate.
func readBase(document *topology.Document) base {
	var name string
	document.DecodeKey("base", &name)
	data, err := scenarios.Files.ReadFile(name + ".yaml")
	if err != nil {
		return base{}
	}
	return base{topology.Read(path.Join("scenarios", name+".yaml"), data)}
}

// settings are those of the base that own does not have.
func (b base) settings(own []Setting) []Setting {
	if b.document == nil {
		return nil
	}
	var settings []Setting
	b.document.DecodeKey("settings", &settings)
	return slices.DeleteFunc(settings, func(s Setting) bool {
		return slices.ContainsFunc(own, func(o Setting) bool { return o.Name == s.Name })
	})
}

// resolve gives every setting its value.
func resolve(settings []Setting, set map[string]string) (map[string]int, error) {
	values, known := map[string]int{}, map[string]Setting{}
	var names []string
	for _, s := range settings {
		values[s.Name], known[s.Name] = s.Default, s
		names = append(names, s.Name)
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(set)) {
		s, ok := known[name]
		if !ok {
			errs = append(errs, fmt.Errorf("setting %q: the scenario has no such setting; %s", name, topology.Allowed(name, names...)))
			continue
		}
		n, err := strconv.Atoi(set[name])
		if err != nil || n < s.Min || n > s.Max {
			errs = append(errs, fmt.Errorf("setting %s=%s: not a number from %d to %d (%s)", name, set[name], s.Min, s.Max, s.Help))
			continue
		}
		values[name] = n
	}
	return values, errors.Join(errs...)
}

// reference is what stands for a setting in a value, right or wrong.
var reference = regexp.MustCompile(`\$\([^()\n]*\)`)

// expression is a reference that can be computed.
var expression = regexp.MustCompile(`^\$\(\s*([a-z][a-z0-9-]*)\s*(?:([+-])\s*([0-9]{1,6})\s*)?\)$`)

// expand replaces every reference in text by its value.
func expand(text string, values map[string]int) (string, error) {
	var err error
	text = reference.ReplaceAllStringFunc(text, func(found string) string {
		m := expression.FindStringSubmatch(found)
		if m == nil {
			err = fmt.Errorf("%q is not $(setting), $(setting + N) or $(setting - N)", found)
			return found
		}
		value, ok := values[m[1]]
		if !ok {
			err = fmt.Errorf("%s: there is no setting %q; %s", found, m[1], topology.Allowed(m[1], slices.Sorted(maps.Keys(values))...))
			return found
		}
		n, _ := strconv.Atoi(m[2] + m[3]) // the expression admits digits only; none is 0
		return strconv.Itoa(value + n)
	})
	return text, err
}
