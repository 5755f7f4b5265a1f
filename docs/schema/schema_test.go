package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	generated "github.com/invopop/jsonschema"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/report"
	"github.com/pmtulab/pmtulab/lab/scenario"
	"github.com/pmtulab/pmtulab/lab/series"
	"github.com/pmtulab/pmtulab/topology"
)

var update = flag.Bool("update", false, "write the schemas")

func topologySchema(t testing.TB) (*generated.Schema, error) {
	return generate[topology.Spec](newGenerator(t, "yaml", "topology"), "pmtulab topology", topologyRules())
}

func scenarioSchema(t testing.TB) (*generated.Schema, error) {
	g := newGenerator(t, "yaml", "topology", "lab/record", "lab/scenario")
	s, err := generate[scenario.Scenario](g, "pmtulab scenario", scenarioRules())
	if err == nil {
		allowSettings(s)
	}
	return s, err
}

// recordSchema is that of a type of package record, which names itself.
func recordSchema[T any](title, name string) func(t testing.TB) (*generated.Schema, error) {
	return func(t testing.TB) (*generated.Schema, error) {
		g := newGenerator(t, "json", "lab/record")
		// More may be added; what reads it must bear that.
		g.AllowAdditionalProperties = true
		return generate[T](g, "pmtulab "+title, named(reflect.TypeFor[T](), name))
	}
}

// The published schemas are those of the types as they are.
func TestPublished(t *testing.T) {
	for file, generate := range map[string]func(testing.TB) (*generated.Schema, error){
		"topology.json": topologySchema, "scenario.json": scenarioSchema,
		"result.json":     recordSchema[record.Result]("result", record.Schema),
		"series.json":     recordSchema[record.Series]("series", record.SeriesSchema),
		"comparison.json": recordSchema[record.Comparison]("comparison", record.ComparisonSchema),
		"survey.json":     recordSchema[record.Survey]("survey", record.SurveySchema),
		"kernels.json":    recordSchema[record.Kernels]("kernels", record.KernelsSchema),
		"sighting.json":   recordSchema[record.Sighting]("sighting", record.SightingSchema),
		"matrix.json":     recordSchema[record.Matrix]("matrix", record.MatrixSchema),
	} {
		s, err := generate(t)
		if err != nil {
			t.Fatal(err)
		}
		got, err := json.MarshalIndent(s, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, '\n')
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(string(read(t, file)), string(got)); diff != "" {
			t.Errorf("%s is not that of the types; write it with go test ./docs/schema -update (-published +generated):\n%s", file, diff)
		}
	}
}

// Every key that people write is described.
func TestDescriptions(t *testing.T) {
	s, err := scenarioSchema(t)
	if err != nil {
		t.Fatal(err)
	}
	s.Definitions["Scenario"] = s
	for name, of := range s.Definitions {
		for p := of.Properties.Oldest(); p != nil; p = p.Next() {
			if p.Value.Description == "" {
				t.Errorf("%s.%s has no doc comment", name, p.Key)
			}
		}
	}
}

// compiled is a published schema.
func compiled(t testing.TB, file string) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(read(t, file)))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(file, document); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(file)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// check holds a document to a schema as an editor does.
func check(s *jsonschema.Schema, data []byte) error {
	var document any
	if err := yaml.Unmarshal(data, &document); err != nil {
		return fmt.Errorf("read YAML: %w", err)
	}
	asJSON, err := json.Marshal(document)
	if err != nil {
		return err
	}
	return checkJSON(s, asJSON)
}

func checkJSON(s *jsonschema.Schema, data []byte) error {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return err
	}
	return s.Validate(document)
}

func glob(t testing.TB, patterns ...string) []string {
	t.Helper()
	var all []string
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no file matches %s: %v", pattern, err)
		}
		all = append(all, files...)
	}
	return all
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Good documents are valid.
func TestGood(t *testing.T) {
	s := compiled(t, "topology.json")
	for _, file := range glob(t, "../../topology/testdata/*.yaml", "../../topology/testdata/draw/*.yaml", "testdata/topology.yaml") {
		data := read(t, file)
		if _, err := topology.Parse(file, data); err != nil {
			t.Errorf("not a good topology: %v", err)
		}
		if err := check(s, data); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	s = compiled(t, "scenario.json")
	for _, name := range append(scenario.Names(), "testdata/scenario.yaml") {
		file, data, err := scenario.Read(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := scenario.Parse(file, data, nil); err != nil {
			t.Errorf("not a good scenario: %v", err)
		}
		if err := check(s, data); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// Results are valid, that of a run which got nowhere too.
func TestResults(t *testing.T) {
	var measured record.Result
	if err := json.Unmarshal(read(t, "../../lab/report/testdata/report.json"), &measured); err != nil {
		t.Fatal(err)
	}
	failed := measured
	failed.Requests = []record.Request{{Name: "A", Failure: "connection refused", Class: record.Unclassified}}
	failed.Stalls = []record.Stall{{Connection: "A"}, {Waits: []record.Wait{{Kind: record.WaitUnknown}}}}
	s := compiled(t, "result.json")
	for _, r := range []record.Result{measured, failed, {Schema: record.Schema, Verdict: record.Error}} {
		var b bytes.Buffer
		if err := report.JSON(&b, r); err != nil {
			t.Fatal(err)
		}
		if err := check(s, b.Bytes()); err != nil {
			t.Errorf("%v in\n%.2000s", err, b.String())
		}
	}
	if check(s, []byte(`{"schema": "pmtulab/result/v1", "verdict": "good"}`)) == nil {
		t.Error("a result with little in it is accepted")
	}
}

// So are series, and what is said about them and about a machine.
func TestRecords(t *testing.T) {
	var measured record.Result
	if err := json.Unmarshal(read(t, "../../lab/report/testdata/report.json"), &measured); err != nil {
		t.Fatal(err)
	}
	broken := record.Result{Verdict: record.Error, Partial: true, Reasons: []string{"no memory"}}
	one, none := series.New(3, []record.Result{measured, broken}), series.New(1, []record.Result{broken})
	place := record.Place{Name: "host", Capabilities: []record.Capability{{Name: "ipvs", State: record.CapabilityMissing}}}
	for schema, documents := range map[string][]any{
		"series.json":     {one, none},
		"comparison.json": {series.Compare("old", one, "new", one), series.Compare("old", one, "new", none)},
		"survey.json":     {record.Survey{Schema: record.SurveySchema, Places: []record.Place{place}}},
	} {
		s := compiled(t, schema)
		for _, document := range documents {
			var b bytes.Buffer
			if err := report.JSON(&b, document); err != nil {
				t.Fatal(err)
			}
			if err := check(s, b.Bytes()); err != nil {
				t.Errorf("%v in\n%.2000s", err, b.String())
			}
		}
		if check(s, []byte(`{"schema": "pmtulab/result/v1"}`)) == nil {
			t.Errorf("%s accepts a result", schema)
		}
	}
}

// A setting can stand for any single value, and only as scenarios have it.
func TestSettings(t *testing.T) {
	s := compiled(t, "scenario.json")
	_, data, err := scenario.Read("report")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		was, is string
		valid   bool
	}{
		{"mtu: $(mtu),", "mtu: $( mtu + 20 ),", true},
		{"mtu: $(mtu),", "mtu: 1$(mtu)0,", true},
		{"mtu: $(mtu),", "mtu: $(mtu * 2),", false},
		{"mtu: $(mtu),", "mtu: mtu,", false},
		{"mtu: $(mtu),", "mtu: 67,", false},
		{"default: 1500", "default: $(mtu)", false},
		{"latency-below: 100ms", "latency-below: $(segments)00ms", true},
		{"latency-below: 100ms", "latency-below: 100", false},
		{"class: pmtu-stall", "class: $(segments)", true},
		{"class: pmtu-stall", "class: pmtu-stal", false},
		{"exception: 10.0.0.2", "exception: 10.0.0.$(segments)", true},
		{"exception: 10.0.0.2", "exception: 10.0.0.2/32", false},
		{`address: "10.0.0.2:443"`, `address: "10.0.0.2:65536"`, false},
		{"open: B", "{open: B, quiet: [A]}", false},
		{"kind: client", "kind: $(segments)", true},
	} {
		changed := strings.Replace(string(data), test.was, test.is, 1)
		if changed == string(data) {
			t.Fatalf("the scenario has no %q", test.was)
		}
		if err := check(s, []byte(changed)); (err == nil) != test.valid {
			t.Errorf("%s: %v, want valid: %v", test.is, err, test.valid)
		}
	}
}

// beyond are the bad files whose mistakes no schema can tell: they are in how
// parts fit together, or in how the YAML is written.
func beyond() map[string]string {
	const yaml = "the YAML is good, but not what a person writes"
	return map[string]string{
		"direct-route-afar":            "the real server is on another wire",
		"duplicate-node":               "names are unique",
		"long-line":                    yaml,
		"merge-key":                    yaml,
		"offloads":                     "tso needs tx-checksum",
		"overlap":                      "subnets of one wire",
		"real-server-no-tunnel":        "the node of an address",
		"real-server-nowhere":          "the node of an address",
		"real-server-port":             "that of the service",
		"real-server-tunnel-elsewhere": "addresses of both ends",
		"real-server-vip-missing":      "the node of an address",
		"same-address":                 "addresses are unique",
		"same-mac":                     "addresses are unique",
		"self-link":                    "the ends differ",
		"service-twice":                "services are unique",
		"service-vip-missing":          "the node of an address",
		"sidecar-alone":                "the wires of a node",
		"tag":                          yaml,
		"two-documents":                yaml,
		"unknown-node":                 "names of nodes",
		"vip-twice":                    "addresses are unique",
		"vip-twice-on-wire":            "addresses are unique",
	}
}

// Bad files are told from good ones, as far as a schema can.
func TestBad(t *testing.T) {
	s := compiled(t, "topology.json")
	reasons := beyond()
	for _, file := range glob(t, "../../topology/testdata/bad/*.yaml") {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		if strings.HasPrefix(name, "alias-") {
			continue // written out, these would fill the memory
		}
		_, known := reasons[name]
		delete(reasons, name)
		if err := check(s, read(t, file)); (err == nil) != known {
			t.Errorf("%s: %v, beyond a schema: %v", name, err, known)
		}
	}
	for name := range reasons {
		t.Errorf("there is no bad file %s", name)
	}
	s = compiled(t, "scenario.json")
	for _, file := range glob(t, "../../lab/scenario/testdata/bad/*.yaml") {
		if strings.HasPrefix(filepath.Base(file), "alias-") {
			continue
		}
		if err := check(s, read(t, file)); err == nil {
			t.Errorf("%s is accepted", file)
		}
	}
}

// Bounds of numbers are those of validation: at each, and at either side of it,
// both accept the document or both refuse it.
func TestBounds(t *testing.T) {
	s, data := compiled(t, "topology.json"), read(t, "testdata/topology.yaml")
	var document map[string]any
	if err := yaml.Unmarshal(data, &document); err != nil {
		t.Fatal(err)
	}
	tried := map[string]bool{}
	numbers := []int64{-1, 0, 1, 2, 67, 68, 69, 65494, 65495, 65496, 65515, 65516, 65520, 65521, 65535, 65536, 1 << 30, 1<<30 + 1, 1<<31 - 1, 1 << 31, 1 << 40}
	eachScalar(document, "$", func(path, key string, value any, set func(any)) {
		if _, whole := value.(uint64); !whole {
			return
		}
		tried[key] = true
		for _, n := range numbers {
			set(n)
			accepted(t, s, document, path, func(bySchema, byValidation error) bool { return (bySchema == nil) == (byValidation == nil) })
		}
		set(value)
	})
	g, err := topologySchema(t)
	if err != nil {
		t.Fatal(err)
	}
	for name, of := range g.Definitions {
		for p := of.Properties.Oldest(); p != nil; p = p.Next() {
			if p.Value.Type == "integer" && !tried[p.Key] {
				t.Errorf("testdata/topology.yaml has no %s of %s", p.Key, name)
			}
		}
	}
}

// What validation accepts of a single value, the schema accepts.
func TestTexts(t *testing.T) {
	s, data := compiled(t, "topology.json"), read(t, "testdata/topology.yaml")
	var document map[string]any
	if err := yaml.Unmarshal(data, &document); err != nil {
		t.Fatal(err)
	}
	texts := []any{
		"a", "a-b", "Lab", "eth0.100", "tunl0", "lo", "a/b", "client", "router", "load-balancer", "1", "abcdefghijklmnop",
		"10.0.0.1", "127.0.0.2/8", "10.0.0.0/16", "10.0.0.1/24", "10.0.0.01", "10.0.0.256", "255.255.255.255/32", "0.0.0.0/0", "default", "::1",
		"200ms", "1.5s", ".5s", "1h2m3s", "+1s", "-1s", "100us", "100µs", "100μs", "0.001s", "2m", "1d", "10 s", "31h",
		"02:00:00:00:00:01", "02-00-00-00-00-01", "0200.0000.0001", "02:00:00:00:00", "2:0:0:0:0:1",
		"rr", "twos", "tcp", "udp", "sctp", "tunnel", "masquerade", "ipip", "gre", "x\ny",
	}
	eachScalar(document, "$", func(path, _ string, value any, set func(any)) {
		for _, text := range texts {
			set(text)
			accepted(t, s, document, path, func(bySchema, byValidation error) bool { return bySchema == nil || byValidation != nil })
		}
		set(value)
	})
}

// accepted compares what the schema and validation say of a document of which
// the value at path was changed.
func accepted(t *testing.T, s *jsonschema.Schema, document any, path string, agree func(bySchema, byValidation error) bool) {
	t.Helper()
	data, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	_, err = topology.Parse("x", data)
	problems, _ := errors.AsType[topology.Problems](err)
	// Others may be wrong because of this one.
	problems = slices.DeleteFunc(problems, func(p topology.Problem) bool { return p.Path != path })
	if bySchema := checkJSON(s, data); !agree(bySchema, problems.Err()) {
		t.Errorf("%s: the schema says %v, validation %v, in %s", path, bySchema, problems.Err(), data)
	}
}

// eachScalar visits the single values of a document; set changes one.
func eachScalar(v any, path string, visit func(path, key string, value any, set func(any))) {
	descend := func(value any, path, key string, set func(any)) {
		switch value.(type) {
		case map[string]any, []any:
			eachScalar(value, path, visit)
		default:
			visit(path, key, value, set)
		}
	}
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			below := path + "." + key
			if strings.Contains(key, ".") {
				below = path + "['" + key + "']"
			}
			descend(v[key], below, key, func(value any) { v[key] = value })
		}
	case []any:
		for i := range v {
			descend(v[i], fmt.Sprintf("%s[%d]", path, i), "", func(value any) { v[i] = value })
		}
	}
}

// What Parse accepts, the schema accepts, once it is written as pmtulab writes
// it. Names that look like numbers or booleans are left out: for an editor they
// need quotes.
func FuzzTopology(f *testing.F) {
	for _, file := range glob(f, "../../topology/testdata/*.yaml", "../../topology/testdata/draw/*.yaml", "testdata/topology.yaml") {
		f.Add(read(f, file))
	}
	s := compiled(f, "topology.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		spec, err := topology.Parse("x", data)
		if err != nil {
			return
		}
		written, err := spec.YAML()
		if err != nil {
			t.Fatal(err)
		}
		if err := check(s, written); err != nil && !aboutTypes(err) {
			t.Errorf("%v in\n%s", err, written)
		}
	})
}

// aboutTypes tells whether all that is wrong are types of values.
func aboutTypes(err error) bool {
	e, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return false
	}
	_, is := e.ErrorKind.(*kind.Type)
	return is || len(e.Causes) > 0 && !slices.ContainsFunc(e.Causes, func(cause *jsonschema.ValidationError) bool { return !aboutTypes(cause) })
}
