package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReadErrors(t *testing.T) {
	valid := `{"schema": "pmtulab/result/v1", "scenario": "report"}`
	for name, test := range map[string]struct{ in, want string }{
		"empty":        {"", "r.json: line 1, column 0 (byte 0 of 0): unexpected end of JSON input"},
		"truncated":    {valid[:30], "r.json: line 1, column 30 (byte 30 of 30): unexpected end of JSON input"},
		"no JSON":      {"\n\n  <html>", "r.json: line 3, column 3 (byte 5 of 10): invalid character '<' looking for beginning of value"},
		"two":          {valid + valid, "column 54 (byte 54 of 106): invalid character '{' after top-level value"},
		"a list":       {"[1]", "r.json: line 1, column 1 (byte 1 of 3): a JSON array; this is no result of pmtulab"},
		"no schema":    {`{"a": 1}`, `r.json: line 1, column 1 (byte 1 of 8): there is no "schema"; this is no result of pmtulab`},
		"null":         {"null", `there is no "schema"`},
		"newer":        {`{"schema": "pmtulab/result/v2", "requests": 7}`, "r.json: its schema is pmtulab/result/v2, newer than this program; pmtulab/result/v1 can be read; use the pmtulab that wrote it, or a newer one"},
		"older":        {`{"schema": "pmtulab/result/v0"}`, "its schema is pmtulab/result/v0, older than this program; pmtulab/result/v1 can be read; use the pmtulab that wrote it"},
		"another form": {`{"schema": "pmtulab/matrix/v1"}`, `its schema is "pmtulab/matrix/v1"; pmtulab/result/v1 can be read`},
		"foreign":      {`{"schema": "http://json-schema.org/draft-07"}`, `its schema is "http://json-schema.org/draft-07"; pmtulab/result/v1 can be read`},
		"no version":   {`{"schema": "pmtulab/result/vx"}`, `its schema is "pmtulab/result/vx"; pmtulab/result/v1 can be read`},
		"wrong type":   {"{\"schema\": \"pmtulab/result/v1\",\n\"requests\": [{\"latency_ms\": \"long\"}]}", "r.json: line 2, column 34 (byte 66 of 69): field requests.latency_ms: a JSON string does not fit"},
		"too big":      {strings.Replace(valid, "}", `, "duration_ms": 1e999}`, 1), "field duration_ms: a JSON number 1e999 does not fit"},
		"bad address":  {strings.Replace(valid, "}", `, "exceptions": [{"destination": "here"}]}`, 1), `r.json: ParseAddr("here"): unable to parse IP`},
	} {
		if _, err := Read("r.json", strings.NewReader(test.in)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v\nwant: %s", name, err, test.want)
		}
	}
}

func TestReadLimits(t *testing.T) {
	endless := io.MultiReader(strings.NewReader(`{"schema": "`), iotest.DataErrReader(strings.NewReader(strings.Repeat("x", MaxSize))))
	if _, err := Read("r.json", endless); err == nil || !strings.Contains(err.Error(), "r.json: larger than 64 MiB") {
		t.Errorf("too large: %v", err)
	}
	broken := errors.New("broken")
	if _, err := Read("r.json", iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("a reader that fails: %v", err)
	}
	if _, err := ReadFile(filepath.Join(t.TempDir(), "r.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// What a newer program of the same schema adds is left out, and no text can
// speak to a terminal.
func TestReadCleans(t *testing.T) {
	r, err := Read("r.json", strings.NewReader(`{"schema": "pmtulab/result/v1", "news": {},
		"scenario": "\u001b]0;x\u0007", "reasons": ["a\u009bb", "c\n\td"], "settings": {"k\r": "\u007f"},
		"requests": [{"name": "\b", "connection": {"upstream": {"local": "[fe80::1%\u001b[31m]:1"}}, "counters": {"n\u0000": {"c\u0000": 1}}}],
		"exceptions": [{"destination": "fe80::1%\u001b[31m"}],
		"timeline": [{"packet": {"inner": {"tcp": {"flags": "\u001b"}}}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	q := r.Requests[0]
	got := fmt.Sprintf("%q %q %q %q %v %v %v %q", r.Scenario, r.Reasons, r.Settings, q.Name, q.Connection.Upstream.Local,
		q.Counters, r.Exceptions[0].Destination, r.Timeline[0].Packet.Inner.TCP.Flags)
	want := `"�]0;x�" ["a�b" "c\n\td"] map["k�":"�"] "�" [fe80::1]:1 map[n�:map[c�:1]] fe80::1 "�"`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// What was read can be written and read again, and is the same then.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"schema": "pmtulab/result/v1", "started": "2026-01-02T03:04:05Z", "settings": {"mtu": "1500"},
		"requests": [{"name": "A", "connection": {"app": {"local": "10.0.0.1:1", "remote": "10.0.0.2:443"}}, "latency_ms": 1.5, "counters": {"lb": {"Ip.X": 1}}}],
		"stalls": [{"request": "A", "waits": [{"kind": "probe0-timer", "ms": 3, "evidence": ["P1"]}]}],
		"timeline": [{"id": "P1", "at_ms": 2, "packet": {"source": "10.0.0.1", "destination": "10.0.0.2", "icmp": {"type": 3, "code": 4, "quoted": {}}}}]}`))
	f.Add([]byte(`{"schema": "pmtulab/result/v2"}`))
	f.Add([]byte(`{"schema": "pmtulab/result/v1", "timeline": [{"packet": {"inner": {"inner": {}}}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Read("fuzzed", bytes.NewReader(data))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "read fuzzed: ") || strings.Count(err.Error(), "\n") > 0 {
				t.Errorf("an error that does not tell the file in one line: %v", err)
			}
			return
		}
		first, err := json.Marshal(r)
		if err != nil {
			return // it holds a time that JSON cannot
		}
		again, err := Read("again", bytes.NewReader(first))
		if err != nil {
			t.Fatal(err)
		}
		if second, err := json.Marshal(again); err != nil || !bytes.Equal(first, second) {
			t.Errorf("it changes, %v:\n%s\n%s", err, first, second)
		}
	})
}
