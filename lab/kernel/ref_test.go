package kernel

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseRef(t *testing.T) {
	for text, want := range map[string]Ref{
		"6.12":                     {Want: "6.12"},
		"7":                        {Want: "7"},
		"6.12.43-1~bpo12+1":        {Want: "6.12.43-1~bpo12+1"},
		"6.1.0-56-cloud-amd64":     {Want: "6.1.0-56-cloud-amd64"},
		"uml":                      {UML: true},
		"uml/5.10":                 {UML: true, Want: "5.10"},
		"a_1+deb13_amd64.deb":      {Debs: []string{"a_1+deb13_amd64.deb"}},
		"x/a_1+b.deb+y/c.deb":      {Debs: []string{"x/a_1+b.deb", "y/c.deb"}},
		"bzImage,modules=lib/6.8":  {Path: "bzImage", Modules: "lib/6.8"},
		"./6.12/":                  {Path: "6.12"},
		"linux-6.12":               {Path: "linux-6.12"},
		"/boot/vmlinuz-6.1.0-9":    {Path: "/boot/vmlinuz-6.1.0-9"},
		"uml/linux":                {Path: "uml/linux"},
		"6.1/arch/x86/boot/bzImag": {Path: "6.1/arch/x86/boot/bzImag"},
	} {
		want.text = text
		got, err := ParseRef(text)
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(Ref{})); err != nil || diff != "" {
			t.Errorf("%s: %v %s", text, err, diff)
		}
	}
	for _, bad := range []string{"", "host", "image,modules=", ",modules=dir"} {
		if _, err := ParseRef(bad); !errors.Is(err, ErrInput) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := ParseRef("host"); !errors.Is(err, ErrHost) {
		t.Errorf("host: %v", err)
	}
}

func someBuilds() []Build {
	var out []Build
	for _, v := range []string{"6.1.192-1", "6.1.192-2", "6.12.43-1~bpo12+1", "6.12.57-1", "6.12.118-1~deb12u1", "6.12.118-1", "7.3.4-1~bpo13+1"} {
		out = append(out, Build{Release: v[:4] + "+rel-cloud-amd64", Version: v})
	}
	return append(out, Build{Release: "5.10.46", Version: "5.10.46-4", UML: true}, Build{Release: "6.1.176", Version: "6.1.176-1", UML: true})
}

func TestNewestOf(t *testing.T) {
	builds := someBuilds()
	for ref, want := range map[string]string{
		"6.1": "6.1.192-2", "6.1.192-1": "6.1.192-1", "6": "6.12.118-1", "6.12.118": "6.12.118-1",
		"6.12.118-1~deb12u1": "6.12.118-1~deb12u1", "7": "7.3.4-1~bpo13+1",
		"uml": "6.1.176-1", "uml/5.10": "5.10.46-4", "uml/5": "5.10.46-4",
	} {
		r, err := ParseRef(ref)
		if err != nil {
			t.Fatal(err)
		}
		// The order of what is there does not matter.
		for range 2 {
			slices.Reverse(builds)
			if at := r.newestOf(builds); at < 0 || builds[at].Version != want {
				t.Errorf("%s is %d, want %s", ref, at, want)
			}
		}
	}
	for _, ref := range []string{"6.11", "6.12.4", "uml/7", "5.10", "6.12.118-2"} {
		r, err := ParseRef(ref)
		if err != nil {
			t.Fatal(err)
		}
		if at := r.newestOf(builds); at >= 0 {
			t.Errorf("%s is %s, want none", ref, builds[at].Version)
		}
	}
}

func TestUnknownNamesTheNearest(t *testing.T) {
	for ref, want := range map[string]string{
		"6.11": "6.1, 6.12, 7.3", "8": "6.12, 7.3", "4.19": "6.1, 6.12",
		"6.12.50": "6.12.43, 6.12.57, 6.12.118", "uml/6.6": "uml/5.10, uml/6.1",
	} {
		r, err := ParseRef(ref)
		if err != nil {
			t.Fatal(err)
		}
		err = r.unknown("the archive", someBuilds())
		if text := err.Error(); text != "kernel "+ref+": the archive has none; nearest: "+want || !errors.Is(err, ErrInput) {
			t.Errorf("%s: %s, want %s", ref, text, want)
		}
	}
	if err := (Ref{text: "6.1"}).unknown("it", nil); strings.Contains(err.Error(), "nearest") {
		t.Error(err)
	}
}
