package pcapng

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket/pcapgo"
)

var moment = time.Unix(1_700_000_000, 123_456_789)

// A file with every block that there is, word by word.
func TestBlocks(t *testing.T) {
	b := AppendSection(nil, Section{Comment: "two\nlines", OS: "Linux 6.1.176", Application: "pmtulab v1"})
	b = AppendInterface(b, Interface{Name: "client/eth0", Description: "MTU 1500", Link: Ethernet, SnapLength: 1514})
	b = AppendInterface(b, Interface{Name: "real/ipip0", Link: RawIP})
	b = AppendNames(b, []Name{{netip.MustParseAddr("10.0.0.1"), "client"}, {netip.MustParseAddr("fd00::1"), "six"}})
	b = AppendSecrets(b, []byte("CLIENT_RANDOM 1 23\n"))
	b = AppendPacket(b, Packet{
		Interface: 1, Time: moment, Length: 1500, Data: []byte("12345"),
		Direction: Outbound, ID: 12, Comments: []string{"first", "second"},
	})
	b = AppendPacket(b, Packet{Time: moment, Length: 4, Data: []byte("1234")})
	b = AppendStatistics(b, Statistics{Interface: 1, Time: moment, Comment: "all of it", Received: 3, Dropped: 1, Delivered: 2})

	const want = `
section     4d3c2b1a 01000000 ffffffff ffffffff
            1 "two\nlines"
            3 "Linux 6.1.176"
            4 "pmtulab v1"
            0 ""
interface   01000000 ea050000
            2 "client/eth0"
            3 "MTU 1500"
            9 "\t"
            0 ""
interface   65000000 00000000
            2 "real/ipip0"
            9 "\t"
            0 ""
names
            1 "\n\x00\x00\x01client\x00"
            2 "\xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01six\x00"
            0 ""
secrets     4b534c54 13000000 434c4945 4e545f52 414e444f 4d203120 32330a00
packet      01000000 fe9c9717 15cd853d 05000000 dc050000 31323334 35000000
            1 "first"
            1 "second"
            2 "\x02\x00\x00\x00"
            5 "\f\x00\x00\x00\x00\x00\x00\x00"
            0 ""
packet      00000000 fe9c9717 15cd853d 04000000 04000000 31323334
statistics  01000000 fe9c9717 15cd853d
            1 "all of it"
            4 "\x03\x00\x00\x00\x00\x00\x00\x00"
            5 "\x01\x00\x00\x00\x00\x00\x00\x00"
            8 "\x02\x00\x00\x00\x00\x00\x00\x00"
            0 ""
`
	if diff := cmp.Diff(strings.TrimSpace(want), strings.TrimSpace(dump(t, b))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// dump takes blocks apart into words and options.
func dump(t *testing.T, b []byte) string {
	var out strings.Builder
	for len(b) > 0 {
		kind, length := binary.LittleEndian.Uint32(b), int(binary.LittleEndian.Uint32(b[4:]))
		if length%4 != 0 || length < 12 || length > len(b) || int(binary.LittleEndian.Uint32(b[length-4:])) != length {
			t.Fatalf("block %#x of %d bytes, with %d left", kind, length, len(b))
		}
		body := b[8 : length-4]
		b = b[length:]
		name, words := "", 0
		switch kind {
		case 0x0a0d0d0a:
			name, words = "section", 4
		case 1:
			name, words = "interface", 2
		case 4:
			name, words = "names", 0
		case 5:
			name, words = "statistics", 3
		case 6:
			name, words = "packet", 5+(int(body[12])+3)/4
		case 10:
			name, words = "secrets", len(body)/4
		}
		line := fmt.Sprintf("%-11s", name)
		for ; words > 0; words-- {
			line += fmt.Sprintf(" %x", body[:4])
			body = body[4:]
		}
		fmt.Fprintln(&out, strings.TrimSpace(line))
		for len(body) > 0 {
			code, n := binary.LittleEndian.Uint16(body), int(binary.LittleEndian.Uint16(body[2:]))
			fmt.Fprintf(&out, "%11s %d %q\n", "", code, body[4:4+n])
			body = body[4+(n+3)/4*4:]
		}
	}
	return out.String()
}

func TestMessage(t *testing.T) {
	const want = "\x00\x0c\x00\x08syslog\x00\x00\x00\x00\x00\x00open connection A"
	if got := string(Message("open connection A")); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Another reader finds in a file what was written, whatever that was.
func FuzzPacket(f *testing.F) {
	f.Add([]byte("data"), "comment", uint64(1), int64(1_700_000_000_123_456_789), uint8(1))
	f.Add([]byte{}, "", uint64(0), int64(0), uint8(0))
	f.Add(make([]byte, 9000), strings.Repeat("x", 1<<16), ^uint64(0), int64(1)<<62, uint8(2))
	f.Fuzz(func(t *testing.T, data []byte, comment string, id uint64, ns int64, direction uint8) {
		if ns < 0 {
			return // before 1970, which the format cannot say
		}
		p := Packet{Time: time.Unix(0, ns), Length: len(data) + 1, Data: data, ID: id, Direction: Direction(direction % 3)}
		if comment != "" {
			p.Comments = []string{comment}
		}
		file := AppendSection(nil, Section{Comment: comment})
		file = AppendInterface(file, Interface{Name: comment, Link: RawIP})
		file = AppendPacket(AppendPacket(file, p), p)
		r, err := pcapgo.NewNgReader(bytes.NewReader(file), pcapgo.DefaultNgReaderOptions)
		if err != nil {
			t.Fatal(err)
		}
		cut := comment[:min(len(comment), 1<<16-1)]
		if got := r.SectionInfo().Comment; got != cut {
			t.Errorf("comment of the section: %q", got)
		}
		for range 2 {
			got, info, options, err := r.ReadPacketDataWithOptions()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, data) || info.Timestamp.UnixNano() != ns || info.Length != len(data)+1 {
				t.Errorf("packet of %d bytes at %v of %d, want %d at %d", len(got), info.Timestamp.UnixNano(), info.Length, len(data), ns)
			}
			if id != 0 && (options.PacketID == nil || *options.PacketID != id) {
				t.Errorf("packet id %v, want %d", options.PacketID, id)
			}
			if p.Direction != 0 && (options.Flags == nil || options.Flags.Direction != pcapgo.NgEpbFlag(p.Direction)) {
				t.Errorf("flags %v, want direction %d", options.Flags, p.Direction)
			}
			if comment != "" && !slices.Equal(options.Comments, []string{cut}) {
				t.Errorf("comments %q", options.Comments)
			}
		}
	})
}
