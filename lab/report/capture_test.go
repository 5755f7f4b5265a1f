package report

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/pcapgo"

	"github.com/pmtulab/pmtulab/lab/record"
)

// seen is a capture of what the measured run saw: a frame for each packet, of
// its id, and an ARP request before them.
func seen(r record.Result) record.Capture {
	c := record.Capture{
		Interfaces: []record.CaptureInterface{
			{Node: "client", Name: "eth0", Ethernet: true, Received: 1},
			{Node: "client", Name: "lo", Ethernet: true},
			{Node: "client", Name: "ipip0"},
		},
		Frames:     []record.Frame{{Time: r.Started, Out: true, Length: 42, Data: []byte("ARP")}},
		SnapLength: 1514,
		Names: map[netip.Addr]string{
			netip.MustParseAddr("10.0.0.2"): "vip", netip.MustParseAddr("10.0.0.1"): "client",
		},
		Secrets: []byte("CLIENT_TRAFFIC_SECRET_0 1 2\n"),
	}
	for _, e := range r.Timeline {
		if e.Packet == nil {
			continue
		}
		on := 0
		if e.Interface == "lo" {
			on = 1
		}
		c.Interfaces[on].Received++
		c.Frames = append(c.Frames, record.Frame{
			ID: e.ID, Interface: on, Time: r.Started.Add(e.At.Duration() + 500*time.Nanosecond),
			Out: e.Packet.Out, Length: e.Packet.Length + 14, Data: []byte(e.ID),
		})
	}
	return c
}

func TestCapture(t *testing.T) {
	all := results(t)
	for _, name := range []string{"pass", "inconclusive", "partial", "unsupported"} {
		t.Run(name, func(t *testing.T) {
			r := all[name]
			c := seen(r)
			switch name {
			case "inconclusive":
				c.Dropped, c.Omitted = map[string]int{"client": 3}, 2
				c.Interfaces[0].Received += 2
			case "partial":
				c.Redacted, c.Secrets = true, nil
			case "unsupported":
				c = record.Capture{}
			}
			var file bytes.Buffer
			if err := Capture(&file, r, c, "pmtulab v1"); err != nil {
				t.Fatal(err)
			}
			if has := bytes.Contains(file.Bytes(), []byte("TRAFFIC_SECRET")); has != (len(c.Secrets) > 0) {
				t.Errorf("secrets in the file: %v", has)
			}
			golden(t, name+".pcapng.txt", []byte(listing(t, &file)))
		})
	}
}

// listing is what another reader finds in a pcapng file.
func listing(t *testing.T, file io.Reader) string {
	t.Helper()
	var out, statistics strings.Builder
	options := pcapgo.DefaultNgReaderOptions
	options.WantMixedLinkType = true
	options.StatisticsCallback = func(n int, s pcapgo.NgInterfaceStatistics) {
		fmt.Fprintf(&statistics, "%d received %d dropped %d at %s%s\n", n, s.PacketsReceived, s.PacketsDropped, s.LastUpdate.UTC().Format("15:04:05.000000000"), strings.TrimRight(" "+s.Comment, " "))
	}
	r, err := pcapgo.NewNgReader(file, options)
	if err != nil {
		t.Fatal(err)
	}
	section := r.SectionInfo()
	fmt.Fprintf(&out, "%s; %s\n%s\n\n", section.Application, section.OS, section.Comment)
	var packets strings.Builder
	for {
		data, info, o, err := r.ReadPacketDataWithOptions()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		direction, id := "   ", uint64(0)
		if o.Flags != nil {
			direction = map[pcapgo.NgEpbFlag]string{pcapgo.NgEpbFlagDirectionInbound: "in ", pcapgo.NgEpbFlagDirectionOutbound: "out"}[o.Flags.Direction]
		}
		if o.PacketID != nil {
			id = *o.PacketID
		}
		fmt.Fprintf(&packets, "%s %d %s %3d %4d %q\n", info.Timestamp.UTC().Format("15:04:05.000000000"), info.InterfaceIndex, direction, id, info.Length, data)
		for _, c := range o.Comments {
			fmt.Fprintf(&packets, "%22s%s\n", "", c)
		}
	}
	for n := range r.NInterfaces() {
		i, err := r.Interface(n)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%d %s, %s, %s, snap %d\n", n, i.Name, i.Description, i.LinkType, i.SnapLength)
	}
	for n := range r.NNames() {
		name, err := r.Name(n)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s %v\n", name.Addr, name.Names)
	}
	return out.String() + "\n" + packets.String() + "\n" + statistics.String()
}

// A disk that is full at any block is an error.
func TestCaptureFullDisk(t *testing.T) {
	r := measured(t)
	var blocks counter
	if err := Capture(&blocks, r, seen(r), ""); err != nil {
		t.Fatal(err)
	}
	for n := range int(blocks) {
		full := counter(-n - 1)
		if err := Capture(&full, r, seen(r), ""); !errors.Is(err, errFull) {
			t.Fatalf("full at block %d of %d: error %v", n, blocks, err)
		}
	}
}

// counter counts writes, and fails when it comes to 0.
type counter int

func (c *counter) Write(b []byte) (int, error) {
	if *c++; *c == 0 {
		return 0, errFull
	}
	return len(b), nil
}
