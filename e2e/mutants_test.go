//go:build linux && mutants

// Mutation tests of the specs: each spec is run against a program or scenario
// with a known fault, and must fail, with a message that names what differs.
//
//	make mutants
//
// A fault is an edit of the sources, compiled by go's -overlay: the tree itself
// is never touched, and the product has no hooks for it.

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// A mutant is a fault and the specs that must find it.
type mutant struct {
	name  string
	edits []edit
	// specs matches the specs to run; every one of them must fail.
	specs string
	// message matches what one of the failures says.
	message string
}

// An edit replaces old, which must be there exactly once.
type edit struct{ file, old, new string }

const (
	reportYAML     = "scenarios/report.yaml"
	clientPort     = "{node: client, mtu: $(mtu), addresses: [10.0.0.1/24]}"
	lbPort         = "{node: lb, mtu: $(mtu), addresses: [10.0.0.5/24]}"
	clientNode     = "sidecar: {port: 15001, uid: 1337}"
	theReport      = "^pmtulab end to end The field report "
	theMitigations = "The field report's mitigations "
)

// onClient gives the client a sysctl.
func onClient(key, value string) edit {
	return edit{reportYAML, clientNode, clientNode + "\n      sysctls: {" + key + ": " + value + "}"}
}

var mutants = []mutant{
	{
		"the load balancer's ICMP is lost",
		[]edit{{reportYAML, "      loopback: [10.0.0.2/32]\n", "      loopback: [10.0.0.2/32]\n      routes: [{to: 10.0.0.1/32, via: 10.0.0.6, dev: eth0}]\n"}},
		theReport + "(passes|request|has every ICMP|leaves)", "black-hole",
	},
	{
		"the load balancer's ICMP tells another MTU",
		[]edit{{reportYAML, "      loopback: [10.0.0.2/32]\n", "      loopback: [10.0.0.2/32]\n      routes: [{to: 10.0.0.6/32, dev: eth0, mtu: 1480}]\n"}},
		theReport + "(passes|request A is|request B waits|has every ICMP|leaves)", "1460",
	},
	{
		"no load balancer's ICMP, since IPVS fragments",
		[]edit{{reportYAML, "      loopback: [10.0.0.2/32]\n", "      loopback: [10.0.0.2/32]\n      sysctls: {net.ipv4.vs.pmtu_disc: 0}\n"}},
		theReport + "request A", "pmtu-retransmit",
	},
	{
		"every MTU is 20 smaller",
		[]edit{{reportYAML, "name: mtu, default: 1500", "name: mtu, default: 1480"}},
		theReport + "(has MSS|request A is|request B waits|has every ICMP|leaves)", "1440",
	},
	{
		"IPVS forwards by direct route",
		[]edit{{reportYAML, "forwarding: tunnel", "forwarding: direct-route"}},
		theReport + "(passes|request|has every ICMP|leaves|sends every)", "clean",
	},
	{
		"IPVS forwards by masquerade",
		[]edit{{reportYAML, "forwarding: tunnel", "forwarding: masquerade"}},
		theReport + "passes", "open connection A",
	},
	{
		"the client segments by offload",
		[]edit{{reportYAML, clientPort, strings.Replace(clientPort, "addresses", "offloads: {tso: true, gso: true, tx-checksum: true}, addresses", 1)}},
		"refuses every segment", "no aggregates of segmentation offload",
	},
	{
		"keepalive probes on the upstream leg",
		[]edit{
			{"lab/sidecar/proxy.go", "net.KeepAliveConfig{Enable: cfg.KeepAlive}", "net.KeepAliveConfig{Enable: true, Idle: 1e9, Interval: 1e9}"},
			{reportYAML, "  - quiet: [A, B]\n", "  - quiet: [A, B]\n  - idle: 1500ms\n"},
		},
		theReport + "request B", "sent segments after it was proven quiet",
	},
	{
		"a request leaves in two writes",
		[]edit{{"lab/traffic/conn.go", "WriteBufferSize:    maxPlaintext", "WriteBufferSize:    1024"}},
		theReport + "request B waits|stalls the application", "did not leave as one write",
	},
	{
		"a ClientHello of two segments",
		[]edit{
			{reportYAML, `{name: A, from: client, to: "10.0.0.2:443"}`, `{name: A, from: client, to: "10.0.0.2:443", post-quantum: true}`},
			{reportYAML, `{name: B, from: client, to: "10.0.0.2:443"}`, `{name: B, from: client, to: "10.0.0.2:443", post-quantum: true}`},
		},
		theReport + "request A", "clean",
	},
	{
		"no TCP timestamps",
		[]edit{onClient("net.ipv4.tcp_timestamps", "0")},
		theReport + "request B waits", "1440",
	},
	{
		"the client probes for the path MTU",
		[]edit{onClient("net.ipv4.tcp_mtu_probing", "2")},
		theReport + "request A", "clean|1024",
	},
	{
		"exceptions live for a minute",
		[]edit{onClient("net.ipv4.route.mtu_expires", "60")},
		theReport + "leaves", "59|60",
	},
	{
		"the capture counts lo twice",
		[]edit{{"lab/evidence/packets.go", "out := address.Pkttype == unix.PACKET_OUTGOING", "out := false"}},
		theReport + "has every ICMP", "lo is counted once|length",
	},
	{
		"samples say nothing of the timer",
		[]edit{{"lab/evidence/sockets.go", "record.Timer(payload[2])", "record.Timer(payload[2] & 1)"}},
		theReport + "(passes|request B waits)", "rescued",
	},
	{
		"the sidecar stays",
		[]edit{{"lab/scenario/scenario.go", "s.Topology.Nodes[i].Sidecar = nil", "_ = i"}},
		"stalls the application's own socket", "MSS|nil",
	},
	{
		"the MTU is the client's alone",
		[]edit{
			{reportYAML, lbPort, strings.Replace(lbPort, "$(mtu)", "1500", 1)},
			{reportYAML, "{node: real, mtu: $(mtu)", "{node: real, mtu: 1500"},
		},
		"follows the MTU", "class of request A",
	},
	{
		"mitigations that do nothing",
		[]edit{
			{reportYAML, "{to: 10.0.0.2/32, dev: eth0, mtu: $(mtu - 20)}", "{to: 10.0.0.2/32, dev: eth0, mtu: $(mtu)}"},
			{reportYAML, "{node: client, name: eth0, mtu: $(mtu - 20)}", "{node: client, name: eth0, mtu: $(mtu)}"},
			{reportYAML, "{to: 10.0.0.1/32, dev: eth0, mtu: $(mtu - 20)}", "{to: 10.0.0.1/32, dev: eth0, mtu: $(mtu)}"},
			{reportYAML, "{to: 10.0.0.1/32, dev: eth0, advmss: $(mtu - 60)}", "{to: 10.0.0.1/32, dev: eth0, advmss: $(mtu - 40)}"},
			{reportYAML, "{node: real, name: eth0, mtu: $(mtu - 20)}", "{node: real, name: eth0, mtu: $(mtu)}"},
		},
		theMitigations + "(leave|stall|lose)", "class of request A",
	},
	{
		"live changes come before any connection",
		[]edit{{"lab/scenario/scenario.go", "slices.Insert(slices.Clone(s.Steps), at, ", "slices.Insert(slices.Clone(s.Steps), 0*at, "}},
		theMitigations + "(come|stall)", "clean",
	},
	{
		"the exception does not expire",
		[]edit{{"scenarios/question-4.yaml", "  - expire: {node: client, exception: 10.0.0.2}\n", ""}},
		"Question 4.*stalls", "class of request B4|B2",
	},
	{
		"observing looks the route up",
		[]edit{{"scenarios/question-4-retransmit.yaml", "  - expire: {node: client, exception: 10.0.0.2}\n", "  - expire: {node: client, exception: 10.0.0.2}\n  - open: C\n"}, {
			"scenarios/question-4-retransmit.yaml", "  - {name: B, from: client, to: \"10.0.0.2:443\"}\n", "  - {name: B, from: client, to: \"10.0.0.2:443\"}\n  - {name: C, from: client, to: \"10.0.0.2:443\"}\n",
		}},
		"Question 4.*only retransmits", "tiny-segments",
	},
	{
		"the real servers have equal weights",
		[]edit{{"e2e/pods_test.go", "Weight: new(2)", "Weight: new(1)"}},
		"share connections", "weight 2",
	},
	{
		"both pods have one namespace",
		[]edit{{"e2e/pods_test.go", `"elsewhere": "other"`, `"elsewhere": "pod"`}},
		"stall when a neighbour", "what another namespace has learned",
	},
}

// spec is one entry of Ginkgo's JSON report.
type spec struct {
	ContainerHierarchyTexts []string
	LeafNodeText, State     string
	Failure                 struct{ Message string }
	AdditionalFailures      []struct{ Failure struct{ Message string } }
}

func (s spec) name() string {
	return strings.Join(append(slices.Clone(s.ContainerHierarchyTexts), s.LeafNodeText), " ")
}

func TestMutants(t *testing.T) {
	caught := map[string]string{}
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			var first string
			matched := false
			for _, s := range m.run(t) {
				if s.State == "skipped" {
					continue
				}
				if s.State != "failed" {
					t.Errorf("survives the spec %q", s.name())
					continue
				}
				caught[s.name()] = m.name
				line := strings.Join(strings.Fields(s.Failure.Message), " ")
				if regexp.MustCompile(m.message).MatchString(line) {
					matched, first = true, line
				} else if first == "" {
					first = line
				}
			}
			if first == "" {
				t.Error("no spec was run")
			} else if !matched {
				t.Errorf("no failure says %q, but %s", m.message, first)
			}
			fmt.Printf("  %-48s %.150s\n", m.name, first)
		})
	}
	if slices.ContainsFunc(os.Args, func(arg string) bool { return strings.HasPrefix(arg, "-test.run=TestMutants/") }) {
		return // some of them only
	}
	for _, s := range list(t) {
		if caught[s.name()] == "" {
			t.Errorf("no mutant makes the spec fail: %s", s.name())
		}
	}
}

// run compiles the specs with the fault, runs them in a guest and returns what
// became of each.
func (m mutant) run(t *testing.T) []spec {
	t.Helper()
	binary := compile(t, m.overlay(t))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	pmtulab, err := filepath.Abs("../bin/pmtulab")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, pmtulab, "vm", "--", binary, "-ginkgo.focus="+m.specs, "-ginkgo.no-color", "-ginkgo.json-report=/dev/stderr")
	var report, output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &report
	err = cmd.Run()
	if _, failed := err.(*exec.ExitError); err != nil && !failed { //nolint:errorlint // Run wraps nothing
		t.Fatal(err)
	}
	return parseReport(t, report.Bytes(), output.String())
}

// list are all specs, without running them.
func list(t *testing.T) []spec {
	t.Helper()
	out := filepath.Join(t.TempDir(), "specs.json")
	cmd := exec.CommandContext(t.Context(), compile(t, ""), "-ginkgo.dry-run", "-ginkgo.json-report="+out)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return parseReport(t, data, "")
}

func parseReport(t *testing.T, data []byte, output string) []spec {
	t.Helper()
	begin := max(0, bytes.Index(data, []byte("[\n")))
	var suites []struct{ SpecReports []spec }
	if err := json.NewDecoder(bytes.NewReader(data[begin:])).Decode(&suites); err != nil || len(suites) != 1 {
		t.Fatalf("read the report: %v\n%s\n%s", err, data, output)
	}
	return suites[0].SpecReports
}

// compile makes the test binary of the specs; overlay is empty for none.
func compile(t *testing.T, overlay string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "e2e.test")
	cmd := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "kernel", "-overlay", overlay, "-o", binary, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("compile: %v\n%s", err, text)
	}
	return binary
}

// overlay writes the changed files and the list of them that go takes.
func (m mutant) overlay(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	changed := map[string]string{} // by path in the tree
	for _, e := range m.edits {
		path, err := filepath.Abs(filepath.Join("..", e.file))
		if err != nil {
			t.Fatal(err)
		}
		text, there := changed[path]
		if !there {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text = string(data)
		}
		if n := strings.Count(text, e.old); n != 1 {
			t.Fatalf("%s has %q %d times", e.file, e.old, n)
		}
		changed[path] = strings.Replace(text, e.old, e.new, 1)
	}
	list := struct{ Replace map[string]string }{map[string]string{}}
	for path, text := range changed {
		file := filepath.Join(dir, fmt.Sprint(len(list.Replace))+filepath.Ext(path))
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		list.Replace[path] = file
	}
	data, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}
