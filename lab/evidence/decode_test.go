package evidence

import (
	"embed"
	"encoding/hex"
	"io/fs"
	"net/netip"
	"path"
	"reflect"
	"strings"
	"testing"

	"github.com/pmtulab/pmtulab/lab/record"
)

// The files of testdata are what the kernel gave during the report's scenario
// on Linux 6.1: packets (the first 176 bytes), answers of inet_diag and
// rtnetlink, files of /proc/net. They are embedded, so that the test binary
// runs in a guest without any file system beside it.
//
//go:embed testdata
var testdata embed.FS

var (
	testClient = netip.MustParseAddr("10.0.0.1")
	testVIP    = netip.MustParseAddr("10.0.0.2")
)

func TestDecode(t *testing.T) {
	syn := record.Packet{
		Source: testClient, Destination: testVIP, Length: 60, DF: true, Protocol: 6,
		TCP: &record.TCP{SourcePort: 50019, DestinationPort: 443, Seq: 0xac6c5acd, Flags: "S", Window: 64240, MSS: 1460, Timestamps: true},
	}
	for _, c := range []struct {
		file string
		want record.Packet
		text string
	}{
		{"syn", syn, "10.0.0.1:50019 > 10.0.0.2:443 [S] seq 2892782285 ack 0 payload 0 mss 1460 length 60 DF"},
		{"data", record.Packet{
			Source: testClient, Destination: testVIP, Length: 290, DF: true, Protocol: 6,
			TCP: &record.TCP{SourcePort: 50019, DestinationPort: 443, Seq: 0xac6c5ace, Ack: 0xc1c14896, Flags: "P.", Window: 502, Payload: 238, Timestamps: true},
		}, "10.0.0.1:50019 > 10.0.0.2:443 [P.] seq 2892782286 ack 3250669718 payload 238 length 290 DF"},
		{"ipip-syn", record.Packet{
			Source: netip.MustParseAddr("10.0.0.5"), Destination: netip.MustParseAddr("10.0.0.6"), Length: 80, DF: true, Protocol: 4, Inner: &syn,
		}, "10.0.0.5 > 10.0.0.6 IPIP length 80 DF (10.0.0.1:50019 > 10.0.0.2:443 [S] seq 2892782285 ack 0 payload 0 mss 1460 length 60 DF)"},
		{"icmp-from-lb", record.Packet{
			Source: testVIP, Destination: testClient, Length: 576, Protocol: 1,
			ICMP: &record.ICMP{Type: 3, Code: 4, MTU: 1480, Quoted: &record.Packet{
				Source: testClient, Destination: testVIP, Length: 1500, DF: true, Protocol: 6,
				TCP: &record.TCP{SourcePort: 50019, DestinationPort: 443, Seq: 0xac6c5bfc, Ack: 0xc1c14b81, Flags: "P.", Window: 501, Payload: 1448, Timestamps: true},
			}},
		}, "10.0.0.2 > 10.0.0.1 ICMP frag-needed mtu 1480 length 576 quoting (10.0.0.1:50019 > 10.0.0.2:443 [P.] seq 2892782588 ack 3250670465 payload 1448 length 1500 DF)"},
		{"icmp-to-self", record.Packet{
			Source: testClient, Destination: testClient, Length: 576, Protocol: 1,
			ICMP: &record.ICMP{Type: 3, Code: 4, MTU: 1480, Quoted: &record.Packet{
				Source: testClient, Destination: testVIP, Length: 1500, DF: true, Protocol: 6,
				TCP: &record.TCP{SourcePort: 40771, DestinationPort: 443, Seq: 0x09ecfa5e, Ack: 0x69784dde, Flags: "P.", Window: 501, Payload: 1448, Timestamps: true},
			}},
		}, "10.0.0.1 > 10.0.0.1 ICMP frag-needed mtu 1480 length 576 quoting (10.0.0.1:40771 > 10.0.0.2:443 [P.] seq 166525534 ack 1769491934 payload 1448 length 1500 DF)"},
	} {
		t.Run(c.file, func(t *testing.T) {
			got := decode(testBytes(t, c.file+".hex"))
			if !reflect.DeepEqual(got, &c.want) {
				t.Errorf("decoded\n%s\nwant\n%s", packetText(got), packetText(&c.want))
			}
			if text := packetText(got); text != c.text {
				t.Errorf("text\n%s\nwant\n%s", text, c.text)
			}
		})
	}
}

// Whatever is cut off, the rest is decoded, and the same.
func TestDecodeTruncated(t *testing.T) {
	const ip, icmp, quoted = 20, 20 + 8, 20 + 8 + 20
	data := testBytes(t, "icmp-from-lb.hex")
	whole := decode(data)
	for length := range data {
		p := decode(data[:length])
		switch {
		case length < ip:
			if p != nil {
				t.Fatalf("%d bytes: decoded %s", length, packetText(p))
			}
			continue
		case length < ip+2:
			if p.ICMP != nil {
				t.Fatalf("%d bytes: an ICMP out of nothing", length)
			}
		case length < icmp+20:
			if p.ICMP == nil || p.ICMP.Quoted != nil {
				t.Fatalf("%d bytes: %s", length, packetText(p))
			}
		case length < quoted+8:
			if q := p.ICMP.Quoted; q == nil || q.Length != 1500 || q.TCP != nil {
				t.Fatalf("%d bytes: %s", length, packetText(p))
			}
		default:
			// 8 bytes are all that RFC 792 promises: enough to know the segment.
			from, to, ok := p.ICMP.Quoted.Endpoints()
			if !ok || from.Port() != 50019 || to.Port() != 443 || p.ICMP.Quoted.TCP.Seq != whole.ICMP.Quoted.TCP.Seq || p.ICMP.MTU != 1480 {
				t.Fatalf("%d bytes: %s", length, packetText(p))
			}
		}
		if p.Source != whole.Source || p.Length != whole.Length {
			t.Fatalf("%d bytes: %s", length, packetText(p))
		}
	}
}

func TestDecodeFragments(t *testing.T) {
	data := testBytes(t, "data.hex")
	data[6], data[7] = 0x20, 0 // more fragments, offset 0
	first := decode(data)
	if !first.Fragment || first.DF || first.TCP == nil {
		t.Errorf("first fragment: %s", packetText(first))
	}
	data[6], data[7] = 0, 185 // the last one: no TCP header in it
	last := decode(data)
	if !last.Fragment || last.TCP != nil {
		t.Errorf("last fragment: %s", packetText(last))
	}
}

func TestFlags(t *testing.T) {
	for bits, want := range map[uint8]string{0: "", 0x02: "S", 0x12: "S.", 0x11: "F.", 0x18: "P.", 0x04: "R", 0x14: "R.", 0xff: "FSRP.UEW"} {
		if got := flags(bits); got != want {
			t.Errorf("flags(%#x) = %q, want %q", bits, got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	files, err := fs.Glob(testdata, "testdata/*.hex")
	if err != nil || len(files) == 0 {
		f.Fatal("no testdata", err)
	}
	for _, file := range files {
		f.Add(testBytes(f, path.Base(file)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p := decode(data)
		if p == nil {
			return
		}
		_ = packetText(p)
		depth := 0
		for p != nil {
			if depth++; depth > maxNesting {
				t.Fatalf("nested %d times", depth)
			}
			if p.TCP != nil && (p.TCP.Payload < 0 || p.TCP.Payload > p.Length) {
				t.Fatalf("payload of %d in a packet of %d", p.TCP.Payload, p.Length)
			}
			switch {
			case p.ICMP != nil:
				p = p.ICMP.Quoted
			default:
				p = p.Inner
			}
		}
	})
}

// testBytes reads a file of hexadecimal digits in testdata.
func testBytes(t testing.TB, name string) []byte {
	t.Helper()
	data, err := hex.DecodeString(strings.Join(strings.Fields(testText(t, name)), ""))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func testText(t testing.TB, name string) string {
	t.Helper()
	text, err := testdata.ReadFile(path.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
