package schema

import (
	"encoding/json"
	"math"
	"reflect"
	"strconv"

	"github.com/invopop/jsonschema"

	"github.com/pmtulab/pmtulab/lab/traffic"
	"github.com/pmtulab/pmtulab/topology"
)

// rule narrows the schema of one key as validation does.
type rule func(*jsonschema.Schema)

// topologyRules are what topology.Spec.Validate asks of single values.
func topologyRules() map[string]rule {
	return map[string]rule{
		"Spec.name":                   name(63),
		"Spec.nodes":                  items(1, 4096),
		"Node.name":                   name(15),
		"Node.loopback":               loopback,
		"Node.sysctls":                sysctls,
		"Segment.name":                name(15),
		"Segment.ports":               items(2, 1024),
		"End.node":                    name(15),
		"End.name":                    interfaceName("lo", "all", "default", ".", "..", "tunl0"),
		"End.mtu":                     between(68, 65535),
		"End.mac":                     mac,
		"Tunnel.name":                 interfaceName("lo", "all", "default", ".", ".."),
		"Tunnel.mtu":                  zeroOr(68, 65515),
		"Route.priority":              between(0, math.MaxInt32),
		"Route.table":                 between(1, math.MaxInt32),
		"Route.mtu":                   zeroOr(68, 65520),
		"Route.advmss":                between(0, 65495),
		"Route.initcwnd":              between(0, 65535),
		"Route.initrwnd":              between(0, 65535),
		"Route.window":                between(0, 1<<30),
		"VirtualService.port":         between(1, 65535),
		"VirtualService.protocol":     oneOf("tcp", "udp"),
		"VirtualService.scheduler":    oneOf(topology.Schedulers()...),
		"VirtualService.real-servers": items(1, 0),
		"RealServerEntry.port":        between(1, 65535),
		"RealServerEntry.weight":      between(0, 65535),
		"Sidecar.port":                between(1, 65535),
		"Sidecar.uid":                 between(1, math.MaxInt32),
	}
}

// scenarioRules are those of scenario.Scenario.Validate, the topology's
// included.
func scenarioRules() map[string]rule {
	rules := topologyRules()
	for key, rule := range map[string]rule{
		"Scenario.name":        pattern(`[A-Za-z0-9][A-Za-z0-9_-]{0,31}`, "write 1–32 letters, digits, dashes and underscores"),
		"Scenario.steps":       items(1, 0),
		"Setting.name":         pattern(`[a-z][a-z0-9-]{0,31}`, "write 1–32 lower-case letters, digits and dashes"),
		"Connection.name":      pattern(`[A-Za-z0-9][A-Za-z0-9_-]{0,31}`, "write 1–32 letters, digits, dashes and underscores"),
		"NodeDevice.mtu":       between(68, 65535),
		"Mitigation.name":      pattern(`[A-Za-z0-9][A-Za-z0-9_-]{0,31}`, "write 1–32 letters, digits, dashes and underscores"),
		"RequestStep.name":     pattern(`[A-Za-z0-9][A-Za-z0-9_-]{0,31}`, "write 1–32 letters, digits, dashes and underscores"),
		"RequestStep.bytes":    between(traffic.MinRequest, traffic.MaxRequest),
		"RequestStep.segments": between(1, 10),
		"Step":                 oneKey,
	} {
		rules[key] = rule
	}
	return rules
}

// between bounds a number, both bounds included.
func between(low, high int) rule {
	return func(s *jsonschema.Schema) {
		s.Minimum, s.Maximum = json.Number(strconv.Itoa(low)), json.Number(strconv.Itoa(high))
	}
}

// zeroOr bounds a number that may also be 0, which leaves the choice to the
// kernel.
func zeroOr(low, high int) rule {
	return func(s *jsonschema.Schema) {
		bounded := &jsonschema.Schema{}
		between(low, high)(bounded)
		s.AnyOf = []*jsonschema.Schema{bounded, {Enum: []any{0}}}
	}
}

// items bounds the length of a list; most is 0 for no bound.
func items(least, most uint64) rule {
	return func(s *jsonschema.Schema) {
		if s.MinItems = &least; most > 0 {
			s.MaxItems = &most
		}
	}
}

func oneOf(words ...string) rule {
	return func(s *jsonschema.Schema) {
		for _, w := range words {
			s.Enum = append(s.Enum, w)
		}
	}
}

func pattern(whole, remedy string) rule {
	return func(s *jsonschema.Schema) {
		t := text(whole, remedy)
		s.Pattern, s.Extras = t.Pattern, t.Extras
	}
}

// name is that of a node, a segment or a topology.
func name(longest int) rule {
	return pattern(`[a-z][a-z0-9-]{0,`+strconv.Itoa(longest-1)+`}`,
		"write lower-case letters, digits and dashes, a letter first, at most "+strconv.Itoa(longest))
}

func interfaceName(taken ...any) rule {
	return func(s *jsonschema.Schema) {
		pattern(`[A-Za-z0-9_.-]{1,15}`, "write at most 15 letters, digits, dashes, underscores and dots")(s)
		s.Not = &jsonschema.Schema{Enum: taken}
	}
}

// loopback addresses stand for themselves alone, but for those of 127.0.0.0/8.
func loopback(s *jsonschema.Schema) {
	s.Items = text(ipv4+"/32|127"+ipv4[len(octet):]+"/"+prefixLength, "write an IPv4 address with /32: lo makes a whole subnet local")
}

func mac(s *jsonschema.Schema) {
	pattern(`[0-9A-Fa-f]{2}((:[0-9A-Fa-f]{2}){5}|(-[0-9A-Fa-f]{2}){5})|[0-9A-Fa-f]{4}(\.[0-9A-Fa-f]{4}){2}`, "write it like 02:00:00:00:00:01")(s)
}

// sysctls have keys below net, and values that may look like numbers.
func sysctls(s *jsonschema.Schema) {
	s.PropertyNames = text(`net[./][A-Za-z0-9_./-]*[A-Za-z0-9_-]`, "write it like net.ipv4.tcp_mtu_probing: only sysctls below net belong to a node")
	longest := uint64(1024)
	s.AdditionalProperties = &jsonschema.Schema{
		MaxLength: &longest, Pattern: `^[^\x00-\x08\x0a-\x1f\x7f-\x9f]+$`,
		Extras: map[string]any{"type": []string{"string", "number", "boolean"}, "patternErrorMessage": "write one line"},
	}
}

// oneKey is a mapping of which exactly one key is set.
func oneKey(s *jsonschema.Schema) {
	one := uint64(1)
	s.MinProperties, s.MaxProperties = &one, &one
}

// named is the rule of a document that names its own form.
func named(t reflect.Type, schema string) map[string]rule {
	return map[string]rule{t.Name() + ".schema": func(s *jsonschema.Schema) { s.Const = schema }}
}
