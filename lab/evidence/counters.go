package evidence

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab/ipvs"
)

// Counters holds kernel counters by node and "Protocol.Name": "Ip.FragFails",
// "Icmp.OutDestUnreachs", "IcmpMsg.OutType3", "TcpExt.TCPWinProbe",
// "Ip6.InReceives", "Device.eth0.RxDropped", "Ipvs.InPackets". Which names exist depends on the kernel;
// a name that is absent counts as 0. Some are gauges or constants
// (Tcp.CurrEstab, Tcp.RtoMin).
type Counters = map[string]map[string]int64

// Delta is after minus before; what did not move is left out. A node without
// any movement is kept, with no names.
func Delta(before, after Counters) Counters {
	delta := make(Counters, len(after))
	for node, counters := range after {
		delta[node] = map[string]int64{}
		for name, value := range counters {
			if d := value - before[node][name]; d != 0 {
				delta[node][name] = d
			}
		}
	}
	return delta
}

// ReadCounters reads the counters of one node. An [Observer] keeps the files
// open instead, which makes a reading several times cheaper.
func ReadCounters(n Node) (map[string]int64, error) {
	var counters map[string]int64
	err := n.Do(func() error {
		files, err := openCounters()
		if err != nil {
			return err
		}
		defer files.close()
		counters, err = files.read()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the counters of %s: %w", n.Name(), err)
	}
	return counters, nil
}

// counterSources are the files of /proc/net that hold counters. A kernel
// without the protocol lacks the file.
var counterSources = [...]struct {
	name     string
	optional bool
	parse    func(into map[string]int64, text []byte) error
}{
	{"snmp", false, parseColumns},
	{"netstat", false, parseColumns},
	{"snmp6", true, parseLines},
	{"dev", false, parseDevices},
	{"ip_vs_stats_percpu", true, parseIPVS},
}

// counterFiles are the open counterSources of one namespace; -1 is absent.
type counterFiles struct {
	fd     [len(counterSources)]int
	buffer []byte
}

// openCounters opens the files in the namespace of the calling thread: that of
// the process, /proc/net, is the main thread's. The caller closes them.
func openCounters() (*counterFiles, error) {
	files := &counterFiles{buffer: make([]byte, 16<<10)}
	for i := range files.fd {
		files.fd[i] = -1
	}
	for i, source := range counterSources {
		path := "/proc/thread-self/net/" + source.name
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		switch {
		case err == nil:
			files.fd[i] = fd
		case source.optional && errors.Is(err, fs.ErrNotExist):
		default:
			files.close()
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
	}
	return files, nil
}

func (f *counterFiles) close() {
	for i, fd := range f.fd {
		if fd >= 0 {
			_ = unix.Close(fd) // read only: nothing can be lost
			f.fd[i] = -1
		}
	}
}

// read reads every file afresh.
func (f *counterFiles) read() (map[string]int64, error) {
	counters := make(map[string]int64, 512)
	for i, source := range counterSources {
		if f.fd[i] < 0 {
			continue
		}
		text, err := f.text(f.fd[i])
		if err == nil {
			err = source.parse(counters, text)
		}
		if err != nil {
			return nil, fmt.Errorf("read /proc/net/%s: %w", source.name, err)
		}
	}
	return counters, nil
}

// text is the content of one file, valid until the next call. The kernel makes
// these files anew for each read at offset 0 and gives all that fits, so one
// system call does unless the buffer was filled.
func (f *counterFiles) text(fd int) ([]byte, error) {
	for {
		n, err := unix.Pread(fd, f.buffer, 0)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, err //nolint:wrapcheck // read names the file
		case n < len(f.buffer):
			return f.buffer[:n], nil
		default:
			f.buffer = make([]byte, 2*len(f.buffer))
		}
	}
}

// parseColumns reads the pairs of lines of snmp and netstat: the names of a
// protocol's counters, then their values. Columns differ between kernels, so
// names alone are trusted.
func parseColumns(into map[string]int64, text []byte) error {
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(lines)%2 != 0 {
		return fmt.Errorf("%d lines, want pairs of names and values", len(lines))
	}
	for i := 0; i < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		if len(names) == 0 || len(names) != len(values) || names[0] != values[0] || !strings.HasSuffix(names[0], ":") {
			return fmt.Errorf("line %d: values do not match the names", i+2)
		}
		protocol := strings.TrimSuffix(names[0], ":") + "."
		for j := 1; j < len(names); j++ {
			if err := set(into, protocol+names[j], values[j], 10); err != nil {
				return fmt.Errorf("line %d: %w", i+2, err)
			}
		}
	}
	return nil
}

// parseLines reads snmp6, one "Ip6InReceives 12" a line, and names it
// "Ip6.InReceives".
func parseLines(into map[string]int64, text []byte) error {
	number := 0
	for line := range bytes.Lines(text) {
		number++
		fields := strings.Fields(string(line))
		if len(fields) != 2 {
			return fmt.Errorf("line %d: want a name and a value", number)
		}
		name := fields[0]
		if protocol, counter, ok := strings.Cut(name, "6"); ok && protocol != "" && counter != "" {
			name = protocol + "6." + counter
		}
		if err := set(into, name, fields[1], 10); err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
	}
	return nil
}

// parseDevices reads what devices dropped from dev, which has two lines of
// headings and then the name and 16 columns of each device: bytes, packets,
// errs, drop, … of what it received, then the same of what it sent
// (dev_seq_printf_stats, net/core/net-procfs.c).
func parseDevices(into map[string]int64, text []byte) error {
	number := 0
	for line := range bytes.Lines(text) {
		if number++; number <= 2 {
			continue
		}
		// Names may hold colons; what follows the last is numbers.
		colon := bytes.LastIndexByte(line, ':')
		if colon < 0 {
			return fmt.Errorf("line %d: no device", number)
		}
		fields := strings.Fields(string(line[colon+1:]))
		if len(fields) != 16 {
			return fmt.Errorf("line %d: %d columns, want 16", number, len(fields))
		}
		device := "Device." + strings.TrimSpace(string(line[:colon]))
		if err := set(into, device+".RxDropped", fields[3], 10); err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
		if err := set(into, device+".TxDropped", fields[11], 10); err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
	}
	return nil
}

// parseIPVS reads ip_vs_stats_percpu.
func parseIPVS(into map[string]int64, text []byte) error {
	t, err := ipvs.ParseTotals(text)
	if err != nil {
		return err //nolint:wrapcheck // read names the file
	}
	into["Ipvs.Connections"] = int64(t.Connections)
	into["Ipvs.InPackets"], into["Ipvs.OutPackets"] = int64(t.InPackets), int64(t.OutPackets)
	into["Ipvs.InBytes"], into["Ipvs.OutBytes"] = int64(t.InBytes), int64(t.OutBytes)
	return nil
}

// set parses value, signed or as large as the kernel's unsigned long; the
// latter wraps, and its differences are right all the same.
func set(into map[string]int64, name, value string, base int) error {
	if signed, err := strconv.ParseInt(value, base, 64); err == nil {
		into[name] = signed
		return nil
	}
	unsigned, err := strconv.ParseUint(value, base, 64)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	into[name] = int64(unsigned)
	return nil
}
