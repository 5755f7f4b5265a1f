//go:build linux

package lab

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestKernelModules(t *testing.T) {
	debian := fstest.MapFS{
		"proc/modules":             {Data: []byte("veth 40960 0 - Live 0x0\nnf_tables 1 2 nft_redir, Live 0x0\n")},
		"proc/sys/kernel/modprobe": {Data: []byte("/sbin/modprobe\n")},
		"lib/modules/6.1/modules.dep": {Data: []byte(
			"kernel/drivers/net/veth.ko.xz:\nkernel/net/ipv4/ipip.ko: kernel/net/ipv4/tunnel4.ko\nkernel/net/netfilter/nft-redir.ko.zst:\n")},
	}
	with := func(file, content string) fstest.MapFS {
		out := fstest.MapFS{}
		for name, f := range debian {
			out[name] = f
		}
		out[file] = &fstest.MapFile{Data: []byte(content)}
		return out
	}
	const fixed = "run on a kernel with ipip, or in a guest: this one can load no module"
	for _, c := range []struct {
		name    string
		root    fstest.MapFS
		release string
		// why is what is said of veth, nft_redir and bridge, in this order.
		why    string
		remedy string
	}{
		{"on disk", debian, "6.1", "not tried: the kernel will load its module nft_redir at first use", "modprobe ipip"},
		{"a container", debian, "6.12", "not tried: the kernel might load its module nft_redir for that", "modprobe ipip"},
		{"not on disk", with("lib/modules/6.1/modules.dep", "kernel/drivers/net/veth.ko:\n"), "6.1", "", "run on a kernel with ipip, or in a guest: this one has no such module"},
		{"no modprobe", with("proc/sys/kernel/modprobe", "\n"), "6.1", "", fixed},
		{"modules disabled", with("proc/sys/kernel/modules_disabled", "1\n"), "6.1", "", fixed},
		{"modules allowed", with("proc/sys/kernel/modules_disabled", "0\n"), "6.1", "not tried: the kernel will load its module nft_redir at first use", "modprobe ipip"},
		{"no modules at all", fstest.MapFS{}, "6.1", "", fixed},
	} {
		m := readModules(c.root, c.release)
		why := ""
		if err := m.firstLoaded("veth", "nft_redir", "bridge"); err != nil {
			why = err.Error()
		}
		if why != c.why || m.remedy("ipip") != c.remedy {
			t.Errorf("%s: %q and %q, want %q and %q", c.name, why, m.remedy("ipip"), c.why, c.remedy)
		}
	}
}

// However a trial fails, its capability is missing, unless it was not tried.
func TestTry(t *testing.T) {
	lack := &MissingError{Name: "x", Capability: "the x", Remedy: "get it"}
	answer := func(err error) func(*Node) (string, error) {
		return func(*Node) (string, error) { return "the answer", err }
	}
	got := Try(
		Need{Name: "there", Passive: true, Try: answer(nil)},
		Need{Name: "fails", What: "a thing", Remedy: "mend it", Passive: true, Try: answer(errors.New("broken"))},
		Need{Name: "lacks", Passive: true, Try: answer(fmt.Errorf("try: %w", lack))},
		Need{Name: "loads", Passive: true, Try: answer(fmt.Errorf("try: %w", &UntriedError{"it loads a module"}))},
	)
	want := []string{"<nil>", "missing a thing: broken; remedy: mend it", "missing the x; remedy: get it", "not tried: it loads a module"}
	for i, c := range got {
		if fmt.Sprint(c.Err) != want[i] {
			t.Errorf("%s: %v, want %v", c.Name, c.Err, want[i])
		}
	}
	if got[0].Found != "the answer" {
		t.Errorf("found %q", got[0].Found)
	}
	if err := Missing(got); fmt.Sprint(err) != want[1]+"\n"+want[2] {
		t.Errorf("missing: %v", err)
	}
	if err := Missing(got[:1]); err != nil {
		t.Errorf("missing: %v", err)
	}
}

// The needs of a network follow from what is in it.
func TestNeeds(t *testing.T) {
	spec := report(true)
	names := func() string {
		var out []string
		for _, n := range Needs(spec) {
			out = append(out, n.Name)
		}
		return strings.Join(out, " ")
	}
	if got, want := names(), "netns veth bridge ipip ipvs"; got != want {
		t.Errorf("needs %s, want %s", got, want)
	}
	spec.Nodes, spec.Segments = slices.Clone(spec.Nodes[:1]), nil
	if got, want := names(), "netns"; got != want {
		t.Errorf("needs %s, want %s", got, want)
	}
}

func TestMissingIn(t *testing.T) {
	ipvs := &MissingError{Name: "ipvs", Err: errors.New("no such family")}
	veth := &MissingError{Name: "veth"}
	for _, c := range []struct {
		err   error
		names string
		alone bool
	}{
		{fmt.Errorf("bring up: %w", errors.Join(ipvs, nil)), "[ipvs]", true},
		{errors.Join(ipvs, fmt.Errorf("probe: %w", veth)), "[ipvs veth]", true},
		{errors.Join(ipvs, errors.New("out of memory")), "[]", false},
		{errors.New("out of memory"), "[]", false},
	} {
		if names, alone := missingIn(c.err); fmt.Sprint(names) != c.names || alone != c.alone {
			t.Errorf("%v: %v, %t; want %v, %t", c.err, names, alone, c.names, c.alone)
		}
	}
}
