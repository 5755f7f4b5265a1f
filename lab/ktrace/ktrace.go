package ktrace

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab/record"
)

// Call is a call of a function, with the moment on CLOCK_MONOTONIC and the inode
// number of the network namespace.
type Call struct {
	At    time.Duration
	Space uint32
	record.Call
}

// Gap is a time in which records were lost, on CLOCK_MONOTONIC; After or Before
// is 0 where there was no record before or after it.
type Gap struct {
	After, Before time.Duration
	Count         int
}

// Calls are what a Trace saw.
type Calls struct {
	// Calls are in the order of their beginnings.
	Calls []Call
	Gaps  []Gap
	// Records counts what the probes told, kept or not.
	Records int
}

// Trace watches functions from Start to Stop. It is for one goroutine at a time.
type Trace struct {
	fs   tracefs
	name string
	// lock holds the instance.
	lock   int
	spaces []uint32
	probes []probe
	// buffer is the size of each processor's part of the ring, in bytes.
	buffer int
	// pipe is trace_pipe, not blocking.
	pipe  int
	rest  []byte
	trace *trace
}

// probe is a function that is watched.
type probe struct {
	function
	symbol string
}

// suffixes are what the compiler appends to the name of a function that it has
// specialised.
var suffixes = []string{"", ".constprop.0", ".isra.0"}

const (
	// Each processor has its part of the memory for records: 4 MiB are 10,000
	// calls with their stacks.
	memory, mostBuffer, leastBuffer = 32 << 20, 4 << 20, 512 << 10
	// A call within a call of the same function, on any processor, takes an
	// instance; those without are missed.
	instances = 64
)

// Start watches the functions in the network namespaces with these inode numbers,
// at least one. It needs root, tracefs, kprobes and BTF. The caller calls Stop.
func Start(spaces []uint32) (*Trace, error) {
	fs, err := openTracefs()
	if err != nil {
		return nil, err
	}
	t := &Trace{fs: fs, spaces: spaces, trace: newTrace(), pipe: -1, lock: -1}
	if err := t.start(mostBuffer); err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

// start has a buffer of at most so many bytes for each processor.
func (t *Trace) start(buffer int) error {
	if err := t.fs.reap(); err != nil {
		return fmt.Errorf("remove the probes of killed processes: %w", err)
	}
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return fmt.Errorf("read the types of the kernel (BTF): %w", err)
	}
	name := fmt.Sprintf("%s%d_%08x", prefix, os.Getpid(), rand.Uint32())
	if t.lock, err = t.fs.own(name); err != nil {
		return fmt.Errorf("make an instance of tracefs: %w", err)
	}
	t.name = name
	for _, f := range functions() {
		if err := t.add(types{spec}, f); err != nil {
			return fmt.Errorf("probe %s: %w", f.name, err)
		}
	}
	if len(t.probes) == 0 {
		return errors.New("none of the functions can be probed")
	}
	processors, err := filepath.Glob(filepath.Join(t.fs.instance(name), "per_cpu/cpu*"))
	if err != nil {
		return err //nolint:wrapcheck // a bad pattern
	}
	t.buffer = min(buffer, max(leastBuffer, memory/max(1, len(processors))))
	for _, setting := range []struct{ file, value string }{
		{"trace_clock", "mono"},
		{"buffer_size_kb", strconv.Itoa(t.buffer >> 10)},
		{"options/stacktrace", "1"},
	} {
		if err := t.set(setting.file, setting.value); err != nil {
			return err
		}
	}
	pipe := filepath.Join(t.fs.instance(name), "trace_pipe")
	if t.pipe, err = unix.Open(pipe, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open %s: %w", pipe, err)
	}
	return t.set(filepath.Join("events", t.name, "enable"), "1")
}

// set writes a file of our instance.
func (t *Trace) set(file, value string) error {
	if err := t.fs.write(filepath.Join("instances", t.name, file), value); err != nil {
		return fmt.Errorf("set up the trace: %w", err)
	}
	return nil
}

// add defines the probes of f, if the kernel has it, and has them record only
// calls in our namespaces. The order of their inode numbers is enough for the
// kernel: filters have a limit of length.
func (t *Trace) add(types types, f function) error {
	args, err := types.args(f)
	if err != nil {
		return err
	}
	p := probe{function: f}
	// Of two probes in one place the later is hit first, and a return probe puts
	// an address of its own on the stack.
	if f.returns != "" {
		p.symbol, err = t.define(fmt.Sprintf("r%d", instances), f.name+returnSuffix, f.name, "sp=$stack:u64 returned=$retval:"+f.returns)
		if err != nil || p.symbol == "" {
			return err
		}
		if err := t.filter(f.name+returnSuffix, "returned != 0"); err != nil {
			return err
		}
	}
	if p.symbol, err = t.define("p", f.name, f.name, args); err != nil || p.symbol == "" {
		return err
	}
	t.probes = append(t.probes, p)
	filter := fmt.Sprintf("space >= %d && space <= %d", slices.Min(t.spaces), slices.Max(t.spaces))
	if f.only != "" {
		filter += " && " + f.only
	}
	return t.filter(f.name, filter)
}

// define adds a probe to our group and returns the symbol that the kernel let it
// be put on: empty where there is none, since the function is inlined, not in
// this kernel, or declared inline and so marked as not to be traced.
func (t *Trace) define(kind, event, function, args string) (symbol string, err error) {
	name := t.name + "/" + event
	for _, suffix := range suffixes {
		symbol = function + suffix
		err := t.fs.write("kprobe_events", fmt.Sprintf("%s:%s %s %s\n", kind, name, symbol, args))
		switch {
		case err == nil:
			return symbol, nil
		case errors.Is(err, unix.EINVAL):
			// Is it the function, or are they the arguments?
			if t.fs.write("kprobe_events", fmt.Sprintf("%s:%s %s\n", kind, name, symbol)) == nil {
				return "", errors.Join(err, t.fs.write("kprobe_events", "-:"+name+"\n"))
			}
		case !errors.Is(err, unix.ENOENT):
			return "", err
		}
	}
	return "", nil
}

// returnSuffix ends the names of probes that tell what a function returned: in
// our namespaces or not, since these know no arguments.
const returnSuffix = "_returned"

func (t *Trace) filter(event, filter string) error {
	return t.set(filepath.Join("events", t.name, event, "filter"), filter)
}

// args are the arguments of the definition of f's probe.
func (t types) args(f function) (string, error) {
	args := []string{"sp=$stack:u64"}
	params := t.params(f)
	values := append([]value{{"space", f.space, false}}, f.values...)
	if f.ends != (endpoints{}) {
		values = append(values, f.ends.source, f.ends.destination, f.ends.sourcePort, f.ends.destinationPort)
	}
	if f.ends.packet != "" {
		values = append(values, value{"header", f.ends.packet + ".+0:u8", false}, value{"protocol", f.ends.packet + ".+9:u8", false})
	}
	for _, v := range values {
		arg, err := t.fetch(v.name, v.path, params)
		if err != nil {
			return "", err
		}
		args = append(args, arg)
	}
	return strings.Join(args, " "), nil
}

// Functions are the names of the functions that are watched, and of those that
// this kernel does not let be probed, with the watched one that tells of each,
// or nothing.
func (t *Trace) Functions() (watched []string, instead map[string]string) {
	instead = map[string]string{}
	for _, f := range functions() {
		if slices.ContainsFunc(t.probes, func(p probe) bool { return p.name == f.name }) {
			watched = append(watched, f.name)
		} else {
			instead[f.name] = f.instead
		}
	}
	return watched, instead
}

// Room is about how many calls, with their stacks, the ring has room for until it
// is drained.
func (t *Trace) Room() int { return t.buffer / 512 }

// Drain takes over what the probes have recorded so far. It costs about as much
// processor time as the recording: the kernel writes stacks as text.
func (t *Trace) Drain() error {
	buffer := make([]byte, 64<<10)
	for {
		n, err := unix.Read(t.pipe, buffer)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN) || err == nil && n == 0:
			return nil
		case err != nil:
			return fmt.Errorf("read the trace: %w", err)
		}
		t.rest = append(t.rest, buffer[:n]...)
		for {
			line, rest, found := bytes.Cut(t.rest, []byte("\n"))
			if !found {
				break
			}
			t.trace.line(string(line))
			t.rest = rest
		}
	}
}

// Stop ends the watch, removes the probes and returns what they saw. With an
// error, what could be had is returned all the same.
func (t *Trace) Stop() (Calls, error) {
	errs := []error{t.set(filepath.Join("events", t.name, "enable"), "0"), t.Drain(), t.close()}
	calls := Calls{Calls: t.calls(), Records: len(t.trace.hits)}
	for _, g := range t.trace.gaps {
		calls.Gaps = append(calls.Gaps, Gap{g.after, g.before, g.count})
	}
	return calls, errors.Join(errs...)
}

func (t *Trace) close() error {
	var errs []error
	if t.pipe >= 0 {
		errs = append(errs, unix.Close(t.pipe))
	}
	if t.lock >= 0 {
		groups, err := t.fs.groups()
		errs = append(errs, err, t.fs.remove(t.name, groups[t.name]), unix.Close(t.lock))
	}
	t.fs.close()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove the probes: %w", err)
	}
	return nil
}

// Missed counts, by function, the calls since Start that could not be recorded,
// or not with what they returned, since a probe was at work on that processor.
// The kernel's statistics do not name groups, but are in the order of the
// definitions.
func (t *Trace) Missed() (map[string]int, error) {
	events, err := os.ReadFile(filepath.Join(t.fs.dir, "kprobe_events"))
	if err != nil {
		return nil, fmt.Errorf("count the missed calls: %w", err)
	}
	profile, err := os.ReadFile(filepath.Join(t.fs.dir, "kprobe_profile"))
	if err != nil {
		return nil, fmt.Errorf("count the missed calls: %w", err)
	}
	missed := map[string]int{}
	lines := strings.Split(string(profile), "\n")
	for i, definition := range strings.Split(string(events), "\n") {
		if i >= len(lines) || !strings.Contains(definition, ":"+t.name+"/") {
			continue
		}
		fields := strings.Fields(lines[i]) // EVENT HITS MISSED
		n, err := strconv.Atoi(fields[len(fields)-1])
		if err != nil {
			return missed, fmt.Errorf("count the missed calls: %w", err)
		}
		if n > 0 {
			missed[strings.TrimSuffix(fields[0], returnSuffix)] += n
		}
	}
	return missed, nil
}

// call is what a hit of p tells.
func (p probe) call(h hit) record.Call {
	c := record.Call{Function: p.name, Stack: h.stack}
	if len(c.Stack) == 0 {
		c.Stack = []string{p.symbol} // all that is known
	}
	for _, v := range p.values {
		n := h.values[v.name]
		if v.network {
			n = int64(bits.ReverseBytes32(uint32(n)))
		}
		c.Arguments = append(c.Arguments, record.Argument{Name: v.name, Value: n})
	}
	if p.ends != (endpoints{}) && p.ends.tcp(h) {
		c.Source = address(h, p.ends.source, p.ends.sourcePort)
		c.Destination = address(h, p.ends.destination, p.ends.destinationPort)
	}
	return c
}

// tcp tells whether there is a TCP header where e says.
func (e endpoints) tcp(h hit) bool {
	const noOptions = 0x45 // IPv4, header of 20 bytes
	return e.packet == "" || h.values["header"] == noOptions && h.values["protocol"] == unix.IPPROTO_TCP
}

func address(h hit, ip, port value) netip.AddrPort {
	n := uint32(h.values[ip.name])
	p := uint16(h.values[port.name])
	if port.network {
		p = bits.ReverseBytes16(p)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}), p)
}
