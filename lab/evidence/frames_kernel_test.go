//go:build linux && kernel

package evidence_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/pmtulab/pmtulab/lab/evidence"
	"github.com/pmtulab/pmtulab/lab/record"
)

// The bytes of every packet are kept beside its event, which ARP and IPv6 do
// not have; of a redacted frame only the headers are left.
func TestCaptureOfFrames(t *testing.T) {
	payload := bytes.Repeat([]byte("payload."), 1448/8)
	for name, headersOnly := range map[string]bool{"whole": false, "headers": true} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork(t)
			o, err := evidence.Start(t.Context(), evidence.Config{
				Nodes: []evidence.Node{n.client, n.router, n.server}, SnapLength: 1514, HeadersOnly: headersOnly,
			})
			must(t, err)
			client, server := n.connect(t)
			_, err = client.Write(payload)
			must(t, err)
			_, err = io.ReadFull(server, make([]byte, len(payload)))
			must(t, err)
			sendLoopback(t, n.client, 3)
			e, err := o.Stop()
			must(t, err)
			complete(t, e)

			c := e.Capture
			if c == nil {
				t.Fatal("no capture")
			}
			var names []string
			for _, i := range c.Interfaces {
				names = append(names, i.Node+"/"+i.Name)
				if !i.Ethernet {
					t.Errorf("%s/%s has no Ethernet header", i.Node, i.Name)
				}
			}
			if got := strings.Join(names, " "); got != "client/eth0 client/lo router/far router/near server/eth0" {
				t.Errorf("interfaces %s", got)
			}
			events := map[string]record.Event{}
			for _, event := range e.Events {
				events[event.ID] = event
			}
			arp, fragNeeded, whole, received := 0, 0, 0, 0
			for i, f := range c.Frames {
				if i > 0 && f.Time.Before(c.Frames[i-1].Time) {
					t.Fatalf("frame %d is out of order", i)
				}
				on := c.Interfaces[f.Interface]
				kind := f.Data[12:14]
				if f.ID == "" {
					switch {
					case bytes.Equal(kind, []byte{0x08, 0x06}):
						arp++
					case !bytes.Equal(kind, []byte{0x86, 0xdd}):
						t.Errorf("a frame of type %x without an event", kind)
					}
					continue
				}
				event, ok := events[f.ID]
				delete(events, f.ID)
				if !ok || event.Packet == nil || event.Node != on.Node || event.Interface != on.Name || event.Packet.Out != f.Out {
					t.Fatalf("%s on %s/%s, out %v: event %+v", f.ID, on.Node, on.Name, f.Out, event)
				}
				p, ip := event.Packet, f.Data[14:]
				if p.Length+14 != f.Length || !bytes.Equal(ip[12:16], p.Source.AsSlice()) || !bytes.Equal(ip[16:20], p.Destination.AsSlice()) {
					t.Errorf("%s: frame % x of %d bytes, event %s", f.ID, f.Data, f.Length, event.Text)
				}
				if p.FragNeeded() {
					fragNeeded++
				}
				if bytes.HasSuffix(f.Data, payload) {
					whole++
				}
				if headersOnly && (bytes.Contains(f.Data, payload[:8]) || bytes.Contains(f.Data, payload[4:12]) || len(f.Data) > 14+20+8+20+60) {
					t.Errorf("%s has payload: %q", f.ID, f.Data)
				}
				if !headersOnly && len(f.Data) != f.Length {
					t.Errorf("%s has %d of %d bytes", f.ID, len(f.Data), f.Length)
				}
			}
			for id, event := range events {
				if event.Packet != nil {
					t.Errorf("%s has no frame", id)
				}
			}
			for _, i := range c.Interfaces {
				received += i.Received
			}
			if received != len(c.Frames) || received != e.Figures.Packets {
				t.Errorf("%d frames, %d were received, %d packets", len(c.Frames), received, e.Figures.Packets)
			}
			// The segment of 1448 bytes leaves the client, comes to the
			// router and is refused. What is sent again may be an aggregate.
			if arp == 0 || fragNeeded != 2 || !headersOnly && whole < 2 {
				t.Errorf("%d ARP, %d frag-needed, %d whole segments", arp, fragNeeded, whole)
			}
		})
	}
}
