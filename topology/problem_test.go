package topology

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestLocate(t *testing.T) {
	const document = `name: outer
topology:
  name: inner
  nodes:
    - name: a
      sysctls: {net.ipv4.ip_forward: 1}
    - &b
      name: b
    - *b
`
	tests := []struct {
		path, wantPath string
		line, column   int
	}{
		{"$.name", "$.topology.name", 3, 9},
		{"$.nodes[0].sysctls['net.ipv4.ip_forward']", "$.topology.nodes[0].sysctls['net.ipv4.ip_forward']", 6, 38},
		{"$.nodes[1].kind", "$.topology.nodes[1].kind", 8, 7},
		{"$.nodes[2].kind", "$.topology.nodes[2].kind", 9, 7},
		{"$.links[0].ends[1]", "$.topology.links[0].ends[1]", 3, 3},
		{"$", "$.topology", 3, 3},
	}
	for _, test := range tests {
		got := Read("x.yaml", []byte(document)).Locate(Problems{{Path: test.path, What: "wrong"}}, "$.topology")
		want := Problems{{File: "x.yaml", Line: test.line, Column: test.column, Path: test.wantPath, What: "wrong"}}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("Locate(%s) = %+v, want %+v", test.path, got, want)
		}
	}
	got := Read("x.yaml", []byte("a: [")).Locate(Problems{{Path: "$.name", What: "wrong"}}, "$")
	if got[0].Line != 0 || got[0].Error() != "x.yaml: wrong" {
		t.Errorf("Locate in an unreadable document = %+v", got)
	}
}

func TestJoin(t *testing.T) {
	decode := Problems{{Line: 3, Path: "$.nodes[0].loopback", What: "unreadable"}}
	check := Problems{
		{Line: 3, Path: "$.nodes[0].loopback[0]", What: "within the unreadable"},
		{Line: 3, Path: "$.nodes[0].loopback", What: "the unreadable"},
		{Line: 2, Path: "$.nodes[0]", What: "around it"},
		{Line: 2, Path: "$.nodes[1]", What: "around it"},
	}
	want := Problems{check[2], decode[0]}
	if got := decode.Join(check); !reflect.DeepEqual(got, want) {
		t.Errorf("Join = %+v, want %+v", got, want)
	}
	if Problems(nil).Join(nil).Err() != nil {
		t.Error("no problems are an error")
	}
}

func TestNearest(t *testing.T) {
	for word, want := range map[string]string{
		"tunel": "tunnel", "Tunnel": "tunnel", "tunnle": "tunnel", "directroute": "direct-route",
		"nat": "", "": "", strings.Repeat("tunnel", 20): "",
	} {
		if got := Nearest(word, "tunnel", "direct-route", "masquerade"); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
	many := make([]string, 200)
	for i := range many {
		many[i] = "node"
	}
	if got := Allowed("nod", many...); !strings.HasSuffix(got, "… (200 in all)") || len(got) > 300 {
		t.Errorf("Allowed of 200 = %q", got)
	}
	if got := quote(strings.Repeat("é", 200)); length(got) > 70 {
		t.Errorf("quote does not shorten: %q", got)
	}
}

func TestEditDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"kitten", "sitting", 3}, {"ca", "abc", 3}} {
		if got := editDistance(test.a, test.b); got != test.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", test.a, test.b, got, test.want)
		}
		if got := editDistance(test.b, test.a); got != test.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", test.b, test.a, got, test.want)
		}
	}
}

// Decode serves formats of other packages too.
func TestDecode(t *testing.T) {
	type inner struct {
		Address netip.AddrPort `yaml:"address"`
		Count   *int64         `yaml:"count"`
	}
	type document struct {
		Share   float64          `yaml:"share"`
		On      bool             `yaml:"on"`
		Every   time.Duration    `yaml:"every"`
		Text    string           `yaml:"text"`
		Small   uint8            `yaml:"small"`
		ByName  map[string]inner `yaml:"by-name"`
		Pair    [2]int           `yaml:"pair"`
		Plain   string
		Skipped string `yaml:"-"`
	}
	var got document
	problems := Read("x.yaml", []byte(`
share: 0.5
on: true
every: 1h30m
text: |
  two
  lines
small: 255
by-name:
  "a b": &a {address: "10.0.0.2:443", count: -3}
  c: *a
pair: [1, 2]
plain: 0x10
`)).Decode(&got)
	if problems != nil {
		t.Fatal(problems)
	}
	one := inner{netip.MustParseAddrPort("10.0.0.2:443"), new(int64(-3))}
	want := document{0.5, true, 90 * time.Minute, "two\nlines\n", 255, map[string]inner{"a b": one, "c": one}, [2]int{1, 2}, "0x10", ""}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Decode = %+v, want %+v", got, want)
	}

	problems = Read("x.yaml", []byte("share: half\nskipped: x\nby-name: {c: {address: 10.0.0.2, count: 9223372036854775808}}\nsmall: 256\n")).Decode(&got)
	var paths []string
	for _, p := range problems {
		paths = append(paths, p.Path)
	}
	if want := []string{"$.share", "$.skipped", "$.by-name.c.address", "$.by-name.c.count", "$.small"}; !reflect.DeepEqual(paths, want) {
		t.Errorf("problems at %v, want %v", paths, want)
	}

	big := append([]byte("text: x\n#"), make([]byte, 1<<20)...)
	if problems := Read("x.yaml", big).Decode(&got); len(problems) != 1 || !strings.Contains(problems.Error(), "1048585 bytes") {
		t.Errorf("Decode of more than 1 MiB = %v", problems)
	}
}

// Expand changes single values and nothing else, once each, and what it cannot
// change is a problem at its place and is not decoded.
func TestExpand(t *testing.T) {
	type document struct {
		Numbers map[string]int    `yaml:"numbers"`
		Texts   []string          `yaml:"texts"`
		Again   []string          `yaml:"again"`
		Keys    map[string]string `yaml:"keys"`
	}
	d := Read("x.yaml", []byte(`numbers: {a: $1, b: $x} # $2
texts: &t [$3, "$4"]
again: *t
keys: {$5: $6}
`))
	var numbers map[string]string
	d.DecodeKey("numbers", &numbers)
	if want := map[string]string{"a": "$1", "b": "$x"}; !reflect.DeepEqual(numbers, want) {
		t.Errorf("DecodeKey = %v, want %v", numbers, want)
	}
	var paths []string
	d.Expand(func(path, text string) (string, error) {
		paths = append(paths, path)
		if text == "$x" {
			return "", errors.New("what is x")
		}
		return strings.ReplaceAll(text, "$", "1"), nil
	})
	if want := []string{"$.numbers.a", "$.numbers.b", "$.texts[0]", "$.texts[1]", "$.keys['$5']"}; !reflect.DeepEqual(paths, want) {
		t.Errorf("Expand visits %v, want %v", paths, want)
	}
	var got document
	problems := d.Decode(&got)
	if want := "x.yaml:1:21: what is x"; problems.Error() != want {
		t.Errorf("problems %q, want %q", problems, want)
	}
	want := document{map[string]int{"a": 11, "b": 0}, []string{"13", "14"}, []string{"13", "14"}, map[string]string{"$5": "16"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("decoded %+v, want %+v", got, want)
	}
}

func TestDestination(t *testing.T) {
	for text, want := range map[string]string{
		"default": "default", "0.0.0.0/0": "default", "10.1.0.0/16": "10.1.0.0/16", "10.0.0.6": "10.0.0.6/32", "": "",
	} {
		var d Destination
		if err := d.UnmarshalText([]byte(text)); err != nil {
			t.Error(err)
		}
		if got, err := d.MarshalText(); string(got) != want || err != nil {
			t.Errorf("%q is written %q, %v, want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"any", "10.0.0.0/33", "fe80::1%eth0", "10.0.0"} {
		if d, err := ParseDestination(text); err == nil {
			t.Errorf("ParseDestination(%q) = %v, want an error", text, d)
		}
	}
}
