package scenario

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pmtulab/pmtulab/topology"
)

var update = flag.Bool("update", false, "write the golden files")

// builtIn is the text of the scenario report.
func builtIn(t testing.TB) string {
	t.Helper()
	_, data, err := Read("report")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Every built-in scenario is valid, with every setting at both ends of its
// range.
func TestBuiltIn(t *testing.T) {
	for _, name := range Names() {
		file, data, err := Read(name)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Parse(file, data, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if s.Name != name || s.Summary == "" {
			t.Errorf("%s has the name %q and the summary %q", file, s.Name, s.Summary)
		}
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSettings(t *testing.T) {
	s, err := Parse("report.yaml", []byte(builtIn(t)), map[string]string{"mtu": "1400", "segments": "3"})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Topology.Segments[0].Ports[0].MTU; got != 1400 {
		t.Errorf("the client's MTU is %d", got)
	}
	if got := s.Steps[3].Request.Segments; got != 3 {
		t.Errorf("request A has %d segments", got)
	}
	for live, step := range map[bool]int{false: 0, true: 3} {
		with, err := s.With("client-route-mtu", live)
		if err != nil {
			t.Fatal(err)
		}
		if with.Steps[step].Mitigate != "client-route-mtu" || len(with.Steps) != len(s.Steps)+1 || s.Steps[step].Mitigate != "" {
			t.Errorf("live %v: the steps are %+v", live, with.Steps)
		}
		if err := with.Validate(); err != nil {
			t.Error(err)
		}
	}
	if got := s.Mitigations[0].Routes[0].Route.MTU; got != 1380 {
		t.Errorf("the mitigation's route has mtu %d", got)
	}
	if a, b := s.Mitigations[0].Expect, s.Mitigations[1].Expect; len(a) == 0 || !reflect.DeepEqual(a, b) {
		t.Errorf("an alias is not its anchor: %+v, %+v", a, b)
	}

	for _, test := range []struct {
		set  map[string]string
		want string
	}{
		{map[string]string{"mtu": "70000"}, `setting mtu=70000: not a number from 600 to 9000 (MTU of every interface in bytes)`},
		{map[string]string{"mtu": "1e3"}, `setting mtu=1e3: not a number from 600 to 9000 (MTU of every interface in bytes)`},
		{map[string]string{"segment": "2"}, `setting "segment": the scenario has no such setting; did you mean "segments"? allowed: mtu, segments`},
	} {
		_, err := Parse("report.yaml", []byte(builtIn(t)), test.set)
		if err == nil || err.Error() != test.want {
			t.Errorf("%v: %v, want %s", test.set, err, test.want)
		}
	}
}

func TestExpand(t *testing.T) {
	values := map[string]int{"mtu": 1500, "big-one": 9000}
	for text, want := range map[string]string{
		"$(mtu)":                        "1500",
		"$(mtu - 20)":                   "1480",
		"$( big-one+1 )":                "9001",
		"mtu $(mtu) advmss $(mtu - 60)": "mtu 1500 advmss 1440",
		"$mtu $ (mtu) plain":            "$mtu $ (mtu) plain",
		"":                              "",
	} {
		if got, err := expand(text, values); err != nil || got != want {
			t.Errorf("expand(%q) = %q, %v, want %q", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"$(mtu * 2)":     `"$(mtu * 2)" is not $(setting), $(setting + N) or $(setting - N)`,
		"$(big-one - )":  `"$(big-one - )" is not $(setting), $(setting + N) or $(setting - N)`,
		"$()":            `"$()" is not $(setting), $(setting + N) or $(setting - N)`,
		"$(mtus)":        `$(mtus): there is no setting "mtus"; did you mean "mtu"? allowed: big-one, mtu`,
		"$(mtu) $(nope)": `$(nope): there is no setting "nope"; allowed: big-one, mtu`,
	} {
		if got, err := expand(text, values); err == nil || err.Error() != want {
			t.Errorf("expand(%q) = %q, %v, want the error %q", text, got, err, want)
		}
	}
}

// Every problem of a bad file is told at once, at its place.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no bad files", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Parse(filepath.Base(file), data, nil)
		if err == nil {
			t.Errorf("%s is accepted", file)
			continue
		}
		golden := strings.TrimSuffix(file, ".yaml") + ".golden"
		if *update {
			if err := os.WriteFile(golden, []byte(err.Error()+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, readErr := os.ReadFile(golden)
		if readErr != nil {
			t.Fatal(readErr)
		}
		if diff := cmp.Diff(string(want), err.Error()+"\n"); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}

// The application's own connection is the one on the wire when there is no
// sidecar, so expectations move to its leg.
func TestWithoutSidecars(t *testing.T) {
	s, err := Parse("report.yaml", []byte(builtIn(t)), nil)
	if err != nil {
		t.Fatal(err)
	}
	bare := s.WithoutSidecars()
	if bare.Topology.Nodes[0].Sidecar != nil || s.Topology.Nodes[0].Sidecar == nil {
		t.Error("the sidecar is not taken out, or taken out of the original")
	}
	if err := bare.Validate(); err != nil {
		t.Error(err)
	}
	for _, e := range bare.Expect {
		if e.Leg == "upstream" {
			t.Errorf("%+v expects an upstream leg", e)
		}
	}
}

// Whatever the file is, Parse returns in time: with Problems, with an error
// about a setting, or with a scenario that is valid.
func FuzzParse(f *testing.F) {
	f.Add([]byte(builtIn(f)))
	for _, pattern := range []string{"testdata/bad/*.yaml", "../../topology/testdata/bad/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		start := time.Now()
		s, err := Parse("x.yaml", data, nil)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("Parse took %v", took)
		}
		if err != nil {
			if problems, ok := errors.AsType[topology.Problems](err); !ok || len(problems) == 0 {
				t.Errorf("Parse = %#v, want Problems", err)
			}
			return
		}
		if err := s.Validate(); err != nil {
			t.Errorf("parsed, but not valid: %v", err)
		}
		for _, m := range s.Mitigations {
			with, err := s.With(m.Name, false)
			if err != nil {
				t.Fatal(err)
			}
			if err := with.Validate(); err != nil {
				t.Errorf("with %s: %v", m.Name, err)
			}
		}
	})
}
