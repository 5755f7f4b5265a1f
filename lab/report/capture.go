package report

import (
	"fmt"
	"io"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pmtulab/pmtulab/lab/pcapng"
	"github.com/pmtulab/pmtulab/lab/record"
)

// Capture writes the packets of a run as a pcapng file: one interface for each
// of the nodes' ("client/eth0"), and one more, "pmtulab", for the steps of the
// scenario. Packets that r gives as evidence are commented, and those of events
// have the event's number as packet id (12 for P12). The application is what
// wrote the file, with its version. Each Write is one block of the file.
func Capture(w io.Writer, r record.Result, c record.Capture, application string) error {
	f := &captureFile{w: w, Result: r, capture: c, comments: comments(r)}
	f.head(application)
	f.packets()
	f.statistics()
	if f.err != nil {
		return fmt.Errorf("write the capture: %w", f.err)
	}
	return nil
}

// captureFile is a capture that is being written; err is the first error.
type captureFile struct {
	w   io.Writer
	err error
	record.Result
	capture record.Capture
	// comments are those of each event, by id.
	comments map[string][]string
	buffer   []byte
}

// write writes a block that was appended to f.buffer.
func (f *captureFile) write(block []byte) {
	if f.err == nil {
		_, f.err = f.w.Write(block)
	}
	f.buffer = block[:0]
}

// steps is the number of the interface for what is no packet.
func (f *captureFile) steps() int { return len(f.capture.Interfaces) }

func (f *captureFile) head(application string) {
	f.write(pcapng.AppendSection(f.buffer, pcapng.Section{
		Comment: strings.Join(f.summary(), "\n"), OS: "Linux " + f.Runtime.Kernel, Application: application,
	}))
	for _, i := range f.capture.Interfaces {
		link := pcapng.RawIP
		if i.Ethernet {
			link = pcapng.Ethernet
		}
		f.write(pcapng.AppendInterface(f.buffer, pcapng.Interface{
			Name: i.Node + "/" + i.Name, Description: f.description(i), Link: link, SnapLength: f.capture.SnapLength,
		}))
	}
	f.write(pcapng.AppendInterface(f.buffer, pcapng.Interface{
		Name: "pmtulab", Description: "steps of the scenario, PMTU exceptions, calls of kernel functions, samples of sockets", Link: pcapng.UpperPDU,
	}))
	if len(f.capture.Names) > 0 {
		var names []pcapng.Name
		for _, address := range slices.SortedFunc(maps.Keys(f.capture.Names), netip.Addr.Compare) {
			names = append(names, pcapng.Name{Address: address, Name: f.capture.Names[address]})
		}
		f.write(pcapng.AppendNames(f.buffer, names))
	}
	if len(f.capture.Secrets) > 0 {
		f.write(pcapng.AppendSecrets(f.buffer, f.capture.Secrets))
	}
}

// summary is the comment on the whole file.
func (f *captureFile) summary() []string {
	lines := []string{fmt.Sprintf("pmtulab scenario %s on Linux %s: %s", f.Scenario, f.Runtime.Kernel, f.Verdict)}
	for _, name := range slices.Sorted(maps.Keys(f.Settings)) {
		lines = append(lines, fmt.Sprintf("setting %s = %s", name, f.Settings[name]))
	}
	for _, q := range f.Requests {
		lines = append(lines, outcome(q))
	}
	lines = append(lines, f.Conclusion...)
	lines = append(lines, f.Reasons...)
	switch {
	case f.capture.Redacted:
		lines = append(lines, "Payload and TLS secrets were left out.")
	case len(f.capture.Secrets) > 0:
		lines = append(lines, "The file contains the TLS secrets of its connections.")
	}
	if n := f.capture.Omitted; n > 0 {
		lines = append(lines, fmt.Sprintf("%d packets are missing: there was no memory for more.", n))
	}
	return lines
}

func outcome(q record.Request) string {
	if q.Status == 0 {
		return fmt.Sprintf("request %s: no response, %s", q.Name, q.Class)
	}
	return fmt.Sprintf("request %s: status %d after %.1f ms, %s", q.Name, q.Status, q.Latency, q.Class)
}

func (f *captureFile) description(i record.CaptureInterface) string {
	for _, l := range f.Links {
		if l.Node == i.Node && l.Interface == i.Name {
			return fmt.Sprintf("MTU %d", l.MTU)
		}
	}
	return ""
}

// packets writes frames and messages in the order of their times.
func (f *captureFile) packets() {
	messages := f.messages()
	for _, frame := range f.capture.Frames {
		for len(messages) > 0 && messages[0].Time.Before(frame.Time) {
			f.write(pcapng.AppendPacket(f.buffer, messages[0]))
			messages = messages[1:]
		}
		p := pcapng.Packet{
			Interface: frame.Interface, Time: frame.Time, Length: frame.Length, Data: frame.Data,
			Direction: pcapng.Inbound, Comments: f.comments[frame.ID],
		}
		if frame.Out {
			p.Direction = pcapng.Outbound
		}
		if number, ok := strings.CutPrefix(frame.ID, "P"); ok {
			p.ID, _ = strconv.ParseUint(number, 10, 64) // none is 0
		}
		f.write(pcapng.AppendPacket(f.buffer, p))
	}
	for _, m := range messages {
		f.write(pcapng.AppendPacket(f.buffer, m))
	}
}

// messages are what happened beside packets: the steps, the outcomes, what nodes
// learned about paths, calls of kernel functions with their stacks, and samples
// of sockets that are evidence.
func (f *captureFile) messages() []pcapng.Packet {
	var out []pcapng.Packet
	say := func(at record.Ms, text string, comments []string) {
		data := pcapng.Message(text)
		out = append(out, pcapng.Packet{
			Interface: f.steps(), Time: f.moment(at), Length: len(data), Data: data, Comments: comments,
		})
	}
	for _, e := range f.Timeline {
		switch comments := f.comments[e.ID]; {
		case e.Socket != nil && comments != nil:
			say(e.At, fmt.Sprintf("socket of connection %s in %s: %s", e.Connection, e.Node, e.Text), comments)
		case e.Route != nil:
			say(e.At, fmt.Sprintf("%s: %s", e.Node, routeText(e.Route)), comments)
		case e.Call != nil:
			say(e.At, fmt.Sprintf("kernel of %s: %s", e.Node, e.Call.Text()), append(comments, strings.Join(e.Call.Stack, "\n")))
		case e.Packet == nil && e.Socket == nil:
			say(e.At, e.Text, comments)
		}
	}
	for _, q := range f.Requests {
		say(q.Ended, outcome(q), nil)
	}
	slices.SortStableFunc(out, func(a, b pcapng.Packet) int { return a.Time.Compare(b.Time) })
	return out
}

// moment is at on the clock of the packets.
func (f *captureFile) moment(at record.Ms) time.Time { return f.Started.Add(at.Duration()) }

// statistics tell what is missing. The kernel counts what it dropped by node;
// the count stands at the node's first interface.
func (f *captureFile) statistics() {
	delivered := make([]int, len(f.capture.Interfaces))
	for _, frame := range f.capture.Frames {
		delivered[frame.Interface]++
	}
	told := map[string]bool{}
	for n, i := range f.capture.Interfaces {
		s := pcapng.Statistics{Interface: n, Time: f.moment(f.Duration), Received: i.Received, Delivered: delivered[n]}
		if dropped := f.capture.Dropped[i.Node]; dropped > 0 && !told[i.Node] {
			s.Dropped, s.Received = dropped, i.Received+dropped
			s.Comment = "dropped on any interface of " + i.Node
		}
		told[i.Node] = true
		f.write(pcapng.AppendStatistics(f.buffer, s))
	}
}

// evidence is what diagnosis writes behind an observation: "(P12)", "(P12 P13)",
// "(S4 to S70)".
var evidence = regexp.MustCompile(`^(.*) \(([A-Z][0-9]+(?: (?:to )?[A-Z][0-9]+)*)\)$`)

// comments are what is said about events, by id: the reasons for the class of
// each request, what was refused, and what the waits of a stall were for.
func comments(r record.Result) map[string][]string {
	out := map[string][]string{}
	say := func(id, request, format string, args ...any) {
		out[id] = append(out[id], "request "+request+": "+fmt.Sprintf(format, args...))
	}
	for _, q := range r.Requests {
		for _, reason := range q.ClassReasons {
			found := evidence.FindStringSubmatch(reason)
			if found == nil {
				continue
			}
			for id := range strings.FieldsSeq(strings.ReplaceAll(found[2], " to ", " ")) {
				say(id, q.Name, "%s", found[1])
				icmp, packets := refused(r.Timeline, id)
				for _, p := range packets {
					say(p, q.Name, "refused by %s, mtu %d (%s)", icmp.Source, icmp.ICMP.MTU, id)
				}
			}
		}
	}
	for _, s := range r.Stalls {
		for _, w := range s.Waits {
			if text, n := waitText[w.Kind], len(w.Evidence); text != "" && n > 0 {
				say(w.Evidence[n-1], s.Request, "waited %.1f ms for %s", w.Ms, text)
			}
		}
	}
	return out
}

// refused are the ids of the packets that the event id, if it is an ICMP
// frag-needed, is about, one for each interface that they came by. What a
// kernel refuses of its own came by none.
func refused(timeline []record.Event, id string) (icmp *record.Packet, ids []string) {
	n := slices.IndexFunc(timeline, func(e record.Event) bool { return e.ID == id })
	if n < 0 || !timeline[n].Packet.FragNeeded() {
		return nil, nil
	}
	icmp = timeline[n].Packet
	from, to, ok := icmp.ICMP.Quoted.Endpoints()
	if !ok {
		return icmp, nil
	}
	for _, e := range timeline[:n] {
		source, destination, ok := e.Packet.Endpoints()
		if ok && source == from && destination == to &&
			e.Packet.TCP.Seq == icmp.ICMP.Quoted.TCP.Seq && e.Packet.Length == icmp.ICMP.Quoted.Length {
			ids = append(ids, e.ID)
		}
	}
	return icmp, ids
}
