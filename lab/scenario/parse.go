package scenario

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"

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
	sort.Strings(names)
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
// topology.Problems; a bad setting is reported by itself.
func Parse(file string, data []byte, set map[string]string) (Scenario, error) {
	var head struct {
		Settings []Setting `yaml:"settings"`
	}
	if err := yaml.Unmarshal(data, &head); err != nil {
		// The strict pass below finds the same trouble and places it.
		head.Settings = nil
	}
	values, err := resolve(head.Settings, set)
	if err != nil {
		return Scenario{}, err
	}
	text, problems := substitute(file, string(data), values)
	if len(problems) > 0 {
		return Scenario{}, problems
	}
	var s Scenario
	if err := topology.Decode(file, []byte(text), &s); err != nil && !errors.As(err, &problems) {
		return Scenario{}, fmt.Errorf("read %s: %w", file, err)
	}
	problems = problems.Join(s.problems().Locate(file, []byte(text), "$"))
	s.Values = values
	return s, problems.Err() //nolint:wrapcheck // Problems speak for themselves
}

// resolve gives every setting its value.
func resolve(settings []Setting, set map[string]string) (map[string]int, error) {
	values := map[string]int{}
	known := map[string]Setting{}
	var names []string
	for _, s := range settings {
		values[s.Name], known[s.Name] = s.Default, s
		names = append(names, s.Name)
	}
	var errs []error
	for name, text := range set {
		s, ok := known[name]
		if !ok {
			errs = append(errs, fmt.Errorf("setting %q: the scenario has no such setting; it has: %s", name, strings.Join(names, ", ")))
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < s.Min || n > s.Max {
			errs = append(errs, fmt.Errorf("setting %s=%s: not a number from %d to %d (%s)", name, text, s.Min, s.Max, s.Help))
			continue
		}
		values[name] = n
	}
	return values, errors.Join(errs...)
}

// reference is "$(name)", "$(name + 20)" or "$(name - 20)".
var reference = regexp.MustCompile(`\$\(([^()\n]*)\)`)

var expression = regexp.MustCompile(`^\s*([a-z][a-z0-9-]*)\s*(?:([+-])\s*([0-9]{1,6})\s*)?$`)

// substitute replaces every reference by its value; comments are left alone
// only in so far as they hold no reference.
func substitute(file, text string, values map[string]int) (string, topology.Problems) {
	var problems topology.Problems
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = reference.ReplaceAllStringFunc(line, func(found string) string {
			body := reference.FindStringSubmatch(found)[1]
			m := expression.FindStringSubmatch(body)
			var value int
			ok := m != nil
			if ok {
				value, ok = values[m[1]]
			}
			if !ok {
				problems = append(problems, topology.Problem{
					File: file, Line: i + 1, Column: strings.Index(line, found) + 1,
					What:   fmt.Sprintf("%s does not name a setting", found),
					Remedy: "write $(setting), $(setting + N) or $(setting - N) with a name of the settings list",
				})
				return found
			}
			if m[2] != "" {
				n, _ := strconv.Atoi(m[2] + m[3]) // the expression admits digits only
				value += n
			}
			return strconv.Itoa(value)
		})
	}
	return strings.Join(lines, "\n"), problems
}

// problems checks what the YAML decoder cannot: names that must refer to
// something, and steps that make sense.
func (s Scenario) problems() topology.Problems {
	var out topology.Problems
	add := func(path, remedy, format string, args ...any) {
		out = append(out, topology.Problem{Path: path, What: fmt.Sprintf(format, args...), Remedy: remedy})
	}
	if err := s.Topology.Validate(); err != nil {
		var problems topology.Problems
		if errors.As(err, &problems) {
			for _, p := range problems {
				p.Path = "$.topology" + strings.TrimPrefix(p.Path, "$")
				out = append(out, p)
			}
		}
	}
	var nodes, connections []string
	for _, n := range s.Topology.Nodes {
		nodes = append(nodes, n.Name)
	}
	for _, c := range s.Connections {
		connections = append(connections, c.Name)
	}
	refer := func(path, kind, name string, known []string) {
		for _, k := range known {
			if k == name {
				return
			}
		}
		add(path, fmt.Sprintf("there are: %s", strings.Join(known, ", ")), "there is no %s %q", kind, name)
	}
	if len(s.Steps) == 0 {
		add("$", "add a list of steps: open, quiet, request", "the scenario has no steps")
	}
	for i, server := range s.Servers {
		refer(fmt.Sprintf("$.servers[%d].node", i), "node", server.Node, nodes)
	}
	for i, c := range s.Connections {
		refer(fmt.Sprintf("$.connections[%d].from", i), "node", c.From, nodes)
	}
	opened := map[string]bool{}
	var requests []string
	for i, step := range s.Steps {
		path := fmt.Sprintf("$.steps[%d]", i)
		switch {
		case step.Open != "":
			refer(path+".open", "connection", step.Open, connections)
			if opened[step.Open] {
				add(path+".open", "open each connection once", "connection %q is open already", step.Open)
			}
			opened[step.Open] = true
		case len(step.Quiet) > 0:
			for j, name := range step.Quiet {
				if !opened[name] {
					add(fmt.Sprintf("%s.quiet[%d]", path, j), "open it in an earlier step", "connection %q is not open", name)
				}
			}
		case step.Request != nil:
			q := step.Request
			if !opened[q.Connection] {
				add(path+".request.connection", "open it in an earlier step", "connection %q is not open", q.Connection)
			}
			if (q.Bytes > 0) == (q.Segments > 0) {
				add(path+".request", "give one of bytes and segments", "the size of the request is not clear")
			}
			requests = append(requests, q.name())
		default:
			add(path, "one of open, quiet, request", "the step does nothing")
		}
	}
	s.problemsOfExpect(add, refer, nodes, connections, requests, "$.expect", s.Expect)
	for i, m := range s.Mitigations {
		for j, r := range m.Routes {
			refer(fmt.Sprintf("$.mitigations[%d].routes[%d].node", i, j), "node", r.Node, nodes)
		}
		s.problemsOfExpect(add, refer, nodes, connections, requests, fmt.Sprintf("$.mitigations[%d].expect", i), m.Expect)
	}
	return out
}

func (s Scenario) problemsOfExpect(
	add func(path, remedy, format string, args ...any),
	refer func(path, kind, name string, known []string),
	nodes, connections, requests []string, at string, expect []Expect,
) {
	for i, e := range expect {
		path := fmt.Sprintf("%s[%d]", at, i)
		if e.Request != "" {
			refer(path+".request", "request", e.Request, requests)
		}
		if e.Connection != "" {
			refer(path+".connection", "connection", e.Connection, connections)
		}
		if e.Node != "" {
			refer(path+".node", "node", e.Node, nodes)
		}
		switch {
		case e.Counter != "" && (e.Node == "" || e.Equals == nil):
			add(path, "write node, counter and equals", "the expectation about counter %s is incomplete", e.Counter)
		case e.Exception.IsValid() && (e.Node == "" || e.MTU == 0):
			add(path, "write node, exception and mtu", "the expectation about the exception for %s is incomplete", e.Exception)
		case e.Counter == "" && !e.Exception.IsValid() && e.Request == "" && e.Connection == "":
			add(path, "name a request, connection, counter or exception", "the expectation is about nothing")
		}
	}
}
