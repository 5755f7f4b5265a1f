package report

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/pmtulab/pmtulab/lab/record"
)

// recorded reads a run that was recorded, with few of its events.
func recorded(t testing.TB, name string) record.Result {
	t.Helper()
	r, err := record.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// pages are the results of report_test.go, and recorded runs of all nodes.
func pages(t *testing.T) map[string]record.Result {
	all := results(t)
	for _, name := range []string{"whole", "question-4", "black-hole"} {
		all[name] = recorded(t, name)
	}
	all["empty"] = record.Result{}
	return all
}

func render(t testing.TB, r record.Result) string {
	t.Helper()
	var out bytes.Buffer
	if err := HTML(&out, r); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestHTML(t *testing.T) {
	for _, name := range []string{"pass", "inconclusive", "partial", "unsupported", "black-hole"} {
		goldenPage(t, name, render(t, pages(t)[name]))
	}
}

// policy finds the hashes in a page.
var policy = regexp.MustCompile(`sha256-[^;]+(&#[^;]+;[^;]+)*;`)

// goldenPage holds a page to its golden file, style and script left out.
func goldenPage(t *testing.T, name, page string) {
	t.Helper()
	page = strings.NewReplacer(pageStyle, "\n/* style.css */\n", pageScript, "\n/* comfort.js */\n").Replace(page)
	golden(t, name+".html", []byte(policy.ReplaceAllString(page, "HASH")))
}

// elements are those of a page.
func elements(t testing.TB, page string) []*html.Node {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	var all []*html.Node
	for n := range doc.Descendants() {
		if n.Type == html.ElementNode {
			all = append(all, n)
		}
	}
	return all
}

func attribute(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

// loads are the attributes that make a browser fetch something.
var loads = []string{"src", "srcset", "action", "formaction", "poster", "background", "data", "ping", "manifest", "style"}

// sound checks what holds for every page, whatever the result says: nothing is
// fetched, nothing runs but the page's own script, and links lead somewhere.
func sound(t testing.TB, page string) {
	t.Helper()
	all := elements(t, page)
	ids := map[string]bool{}
	for _, n := range all {
		if id := attribute(n, "id"); id != "" {
			ids[id] = true
		}
	}
	count := map[string]int{}
	for _, n := range all {
		count[n.Data]++
		for _, a := range n.Attr {
			switch key, value := strings.ToLower(a.Key), a.Val; {
			case strings.HasPrefix(key, "on") || slices.Contains(loads, key):
				t.Errorf("<%s %s=%q>", n.Data, key, value)
			case key == "href" && value == "data:,": // no icon
			case key == "href" && (!strings.HasPrefix(value, "#") || !ids[value[1:]]):
				t.Errorf("<%s %s=%q> leads nowhere", n.Data, key, value)
			case strings.Contains(value, "url(") && !strings.HasPrefix(value, "url(#head-"):
				t.Errorf("<%s %s=%q>", n.Data, key, value)
			}
		}
		switch n.Data {
		case "script", "style":
			if text := n.FirstChild.Data; text != pageScript && text != pageStyle {
				t.Errorf("<%s> of %.80q", n.Data, text)
			}
		case "img", "iframe", "object", "embed", "form", "base", "input", "image", "video", "audio":
			t.Errorf("<%s> is there", n.Data)
		}
	}
	if count["script"] != 1 || count["style"] != 1 || count["h1"] != 1 || count["main"] != 1 {
		t.Errorf("elements: %v", count)
	}
}

func TestHTMLIsSound(t *testing.T) {
	for name, r := range pages(t) {
		t.Run(name, func(t *testing.T) {
			page := render(t, r)
			sound(t, page)
			if len(page) > 1<<20 {
				t.Errorf("%d bytes", len(page))
			}
			for _, n := range elements(t, page) {
				if n.Data == "html" && attribute(n, "lang") != "en" || n.Data == "th" && attribute(n, "scope") == "" {
					t.Errorf("<%s> without its attribute", n.Data)
				}
			}
		})
	}
	if strings.Contains(pageStyle, "url(") || strings.Contains(pageStyle, "@import") {
		t.Error("the style loads something")
	}
}

// Every event that a text names is a link, and every mark of the picture has
// its id and a title.
func TestHTMLEvidence(t *testing.T) {
	r := recorded(t, "whole")
	page := render(t, r)
	for _, id := range []string{"P105", "P125", "S4", "S74", "P132"} {
		if !strings.Contains(page, `<a class="event" href="#`+id+`">`+id+`</a>`) || !strings.Contains(page, `<tr id="`+id+`"`) {
			t.Errorf("%s is not linked to the list", id)
		}
	}
	for _, want := range []string{
		"1500 B, 0–1448", "frag-needed, mtu 1480", "72 B, 1428–1448, again", "kernel refuses 1500 B, mtu 1480", "212 ms", "probe0 timer,", "+211.9",
		"P106  496.115 ms  client eth0 out, 1480 bytes", "1500 − 20 = 1480", "10.0.0.2 dev eth0", "net.ipv4.route.mtu_expires", "Icmp.InDestUnreachs",
		"163, 15 of them not IPv4; their times are exact to 0.024 ms", "at most 4.0 ms apart", "19 of 19 met", "power-off", "this host has no link kind ipip, no IPVS",
		"pmtulab run report --set mtu=1500 --set segments=1 --on uml", "┌─ client",
	} {
		if !strings.Contains(html.UnescapeString(page), want) {
			t.Errorf("the page does not show %q", want)
		}
	}
	titles := 0
	for _, n := range elements(t, page) {
		if n.Data == "title" {
			titles++
		}
	}
	if titles < 40 {
		t.Errorf("%d titles", titles)
	}
}

// hostile sets every text of v to s.
func hostile(v reflect.Value, s string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Pointer:
		if !v.IsNil() {
			hostile(v.Elem(), s)
		}
	case reflect.Slice:
		for i := range v.Len() {
			hostile(v.Index(i), s)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			value := reflect.New(v.Type().Elem()).Elem()
			value.Set(v.MapIndex(key))
			hostile(value, s)
			v.SetMapIndex(key, value)
			v.SetMapIndex(reflect.ValueOf(s), value)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				hostile(v.Field(i), s)
			}
		}
	}
}

func TestHTMLEscapes(t *testing.T) {
	for _, s := range []string{
		`"><script>alert(1)</script>`, `' onload='alert(1)`, `</title></svg></style><img src=x onerror=alert(1)>`, `javascript:alert(1)`, `<!--`, `]]>`, "{{.Schema}}", "P1", "\x00\xff",
	} {
		for _, name := range []string{"whole", "black-hole"} {
			r := recorded(t, name)
			hostile(reflect.ValueOf(&r).Elem(), s)
			r.Requests = append(r.Requests, recorded(t, name).Requests...)
			r.Timeline = append(r.Timeline, recorded(t, name).Timeline...)
			sound(t, render(t, r))
		}
	}
}

// The size is bounded however long the run was.
func TestHTMLIsBounded(t *testing.T) {
	r := recorded(t, "whole")
	once := r.Timeline
	for range 100 {
		r.Timeline = append(r.Timeline, once...)
	}
	page := render(t, r)
	if len(page) > 1<<20 {
		t.Errorf("%d bytes", len(page))
	}
	if want := fmt.Sprintf("%d more events are in result.json", len(r.Timeline)-mostEvents); !strings.Contains(page, want) {
		t.Errorf("it does not say %q", want)
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

var errFull = errors.New("no space left on device")

func TestWriteErrors(t *testing.T) {
	for name, err := range map[string]error{
		"HTML": HTML(fullDisk{}, record.Result{}), "Markdown": Markdown(fullDisk{}, record.Result{}),
	} {
		if !errors.Is(err, errFull) || !strings.HasPrefix(err.Error(), "write the ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Text can be read in both colour schemes: a contrast of 4.5 to 1, as WCAG 2.2
// §1.4.3 wants.
func TestContrast(t *testing.T) {
	light, dark, ok := strings.Cut(pageStyle, "@media screen and (prefers-color-scheme: dark)")
	if !ok {
		t.Fatal("there is one colour scheme only")
	}
	variable := regexp.MustCompile(`--([a-z-]+): #([0-9a-f]{3,6})`)
	colours := map[string]float64{}
	for scheme, css := range []string{light, strings.SplitN(dark, "* {", 2)[0]} {
		for _, m := range variable.FindAllStringSubmatch(css, -1) {
			colours[m[1]] = luminance(t, m[2])
		}
		for _, pair := range []string{
			"ink bg", "ink card", "ink wash", "ink red-wash", "ink amber-wash", "soft bg", "soft card", "soft wash", "soft red-wash",
			"blue card", "violet card", "amber card", "red card", "green card", "red red-wash", "amber amber-wash", "green green-wash",
		} {
			text, ground, _ := strings.Cut(pair, " ")
			a, b := colours[text], colours[ground]
			if ratio := (max(a, b) + 0.05) / (min(a, b) + 0.05); ratio < 4.5 {
				t.Errorf("scheme %d: %s on %s has a contrast of %.1f", scheme, text, ground, ratio)
			}
		}
	}
}

// luminance is the relative luminance of a colour in hexadecimal.
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	if len(hex) == 3 {
		hex = string([]byte{hex[0], hex[0], hex[1], hex[1], hex[2], hex[2]})
	}
	sum := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(hex[2*i:2*i+2], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		c := float64(n) / 255
		if c <= 0.04045 {
			sum += weight * c / 12.92
		} else {
			sum += weight * math.Pow((c+0.055)/1.055, 2.4)
		}
	}
	return sum
}

// Any result that can be read can be shown in every form.
func FuzzRender(f *testing.F) {
	for _, name := range []string{"whole", "black-hole"} {
		data, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"schema": "pmtulab/result/v1", "scenario": "<b>", "settings": {"with": "x, live"},
		"requests": [{"name": "A", "class": "pmtu-stall", "class_reasons": ["so (P1)"], "wrote_ms": 1, "ended_ms": 300, "status": 200,
			"connection": {"name": "A", "app": {"local": "10.0.0.1:1", "remote": "10.0.0.2:443"}}, "counters": {"lb": {"Ip.X": 1}}}],
		"stalls": [{"request": "A", "duration_ms": 250, "waits": [{"kind": "probe0-timer", "ms": 250, "evidence": ["P2"]}]}],
		"timeline": [
			{"id": "P1", "at_ms": 2, "node": "c", "connection": "A", "packet": {"source": "10.0.0.1", "destination": "10.0.0.1", "icmp": {"type": 3, "code": 4, "quoted": {}}}},
			{"id": "S1", "at_ms": 3, "node": "c", "connection": "A", "socket": {"local": "10.0.0.1:1", "remote": "10.0.0.2:443", "timer": 4, "notsent": 9, "expires_ms": 200}},
			{"id": "P2", "at_ms": 251, "node": "c", "connection": "A", "packet": {"source": "10.0.0.1", "destination": "10.0.0.2", "out": true, "inner": {"tcp": {"payload": 9}}}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := record.Read("fuzzed", bytes.NewReader(data))
		if err != nil {
			return
		}
		sound(t, render(t, r))
		var out bytes.Buffer
		for name, err := range map[string]error{
			"Terminal": Terminal(&out, r, Style{Color: true}), "Markdown": Markdown(&out, r), "JUnit": JUnit(&out, r),
		} {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
