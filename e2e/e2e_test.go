//go:build linux && kernel

package e2e

import (
	"context"
	"slices"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/pmtulab/pmtulab/lab"
	"github.com/pmtulab/pmtulab/lab/guest"
	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/scenario"
)

func TestMain(m *testing.M) {
	lab.Main()
	m.Run()
}

func TestEndToEnd(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "pmtulab end to end")
}

// needs labels specs with every capability that a built-in scenario needs.
func needs(name string, change ...func(scenario.Scenario) scenario.Scenario) Labels {
	file, data, err := scenario.Read(name)
	if err != nil {
		panic(err)
	}
	s, err := scenario.Parse(file, data, nil)
	if err != nil {
		panic(err)
	}
	for _, f := range change {
		s = f(s)
	}
	return needsOf(s)
}

// needsOf labels specs with every capability that a scenario needs, by the names
// that PMTULAB_REQUIRE and ginkgo's label filter take.
func needsOf(s scenario.Scenario) Labels {
	var labels Labels
	for _, need := range s.Needs() {
		labels = append(labels, need.Name)
	}
	return labels
}

// parse reads a built-in scenario with "key=value" settings.
func parse(name string, settings map[string]string) scenario.Scenario {
	GinkgoHelper()
	file, data, err := scenario.Read(name)
	Expect(err).NotTo(HaveOccurred())
	s, err := scenario.Parse(file, data, settings)
	Expect(err).NotTo(HaveOccurred())
	return s
}

// with puts a mitigation in place, before any connection or while they are idle.
func with(s scenario.Scenario, mitigation string, live bool) scenario.Scenario {
	GinkgoHelper()
	s, err := s.With(mitigation, live)
	Expect(err).NotTo(HaveOccurred())
	return s
}

// perform runs s here, where this machine can, and requires that nothing of the
// evidence of its requests was lost.
func perform(ctx context.Context, s scenario.Scenario) record.Result {
	GinkgoHelper()
	for _, need := range s.Needs() {
		Expect(CurrentSpecReport().Labels()).To(ContainElement(need.Name), "a spec is labelled with what it needs")
	}
	required := s
	if guest.Inside() {
		required.MTUExpires = 0 // before Linux 6.1 it is the whole machine's, which is ours
	}
	lab.Require(GinkgoT(), lab.Missing(lab.Try(required.Needs()...)))
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	r := scenario.Run(ctx, s, scenario.Options{
		OwnMachine: guest.Inside(),
		Progress:   func(line string) { GinkgoWriter.Println(line) },
	})
	Expect(slices.DeleteFunc(slices.Clone(r.Losses), func(l record.Loss) bool { return !r.Matters(l) })).To(BeEmpty())
	Expect(r.Partial).To(BeFalse(), "%v", r.Reasons)
	return r
}

// request finds a request of the result by name.
func request(r record.Result, name string) record.Request {
	GinkgoHelper()
	for _, q := range r.Requests {
		if q.Name == name {
			return q
		}
	}
	Fail("no request " + name)
	return record.Request{}
}

// packets are the packets that a node's interface saw and that match.
func packets(r record.Result, node, device string, match func(*record.Packet) bool) []record.Packet {
	var out []record.Packet
	for _, e := range r.Timeline {
		if e.Packet != nil && e.Node == node && e.Interface == device && match(e.Packet) {
			out = append(out, *e.Packet)
		}
	}
	return out
}
