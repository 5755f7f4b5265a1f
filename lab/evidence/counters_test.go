package evidence

import (
	"maps"
	"reflect"
	"strings"
	"testing"
)

func TestCounterFiles(t *testing.T) {
	for _, c := range []struct {
		file  string
		parse func(map[string]int64, []byte) error
		count int
		want  map[string]int64
	}{
		{"snmp", parseColumns, 81, map[string]int64{
			"Ip.DefaultTTL": 64, "Ip.InReceives": 46, "Ip.FragFails": 0, "Icmp.OutDestUnreachs": 0,
			"Tcp.MaxConn": -1, "Tcp.OutSegs": 28, "Tcp.RetransSegs": 0, "UdpLite.MemErrors": 0,
		}},
		{"netstat", parseColumns, 143, map[string]int64{"TcpExt.TCPWinProbe": 0, "IpExt.InOctets": 11241}},
		{"snmp6", parseLines, 85, map[string]int64{"Ip6.InReceives": 0, "Icmp6.OutMsgs": 0, "UdpLite6.InErrors": 0}},
		{"ip_vs_stats_percpu", parseIPVS, 5, map[string]int64{
			"Ipvs.Connections": 2, "Ipvs.InPackets": 0xd, "Ipvs.OutPackets": 1, "Ipvs.InBytes": 0x1060, "Ipvs.OutBytes": 0x240,
		}},
	} {
		t.Run(c.file, func(t *testing.T) {
			got := map[string]int64{}
			if err := c.parse(got, []byte(testText(t, c.file))); err != nil {
				t.Fatal(err)
			}
			if len(got) != c.count {
				t.Errorf("%d counters, want %d", len(got), c.count)
			}
			for name, want := range c.want {
				if value, ok := got[name]; !ok || value != want {
					t.Errorf("%s = %d (there: %t), want %d", name, value, ok, want)
				}
			}
		})
	}
}

// A second CPU, and figures as large as the kernel can print.
func TestIPVSAddsUpCPUs(t *testing.T) {
	got := map[string]int64{}
	text := `       Total Incoming Outgoing         Incoming         Outgoing
CPU    Conns  Packets  Packets            Bytes            Bytes
  0       1A        2        3                4               10
  B        6        0        0                0 FFFFFFFFFFFFFFFF
  ~       99       99       99               99               99
`
	if err := parseIPVS(got, []byte(text)); err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{"Ipvs.Connections": 0x20, "Ipvs.InPackets": 2, "Ipvs.OutPackets": 3, "Ipvs.InBytes": 4, "Ipvs.OutBytes": 0xf}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestCounterErrors(t *testing.T) {
	for _, c := range []struct {
		name, text, want string
		parse            func(map[string]int64, []byte) error
	}{
		{"odd lines", "Ip: A\n", "pairs", parseColumns},
		{"empty", "", "pairs", parseColumns},
		{"other protocol", "Ip: A\nTcp: 1\n", "line 2: values do not match", parseColumns},
		{"missing value", "Ip: A B\nIp: 1\n", "line 2: values do not match", parseColumns},
		{"no number", "Ip: A\nIp: x\n", "line 2: Ip.A", parseColumns},
		{"one field", "Ip6InReceives\n", "line 1", parseLines},
		{"no number in a line", "a 1\nIp6InReceives ?\n", "line 2: Ip6.InReceives", parseLines},
		{"no CPU", "  ~ 0 0 0 0 0\n", "no row", parseIPVS},
		{"columns", "  0 0 0 0 0\n", "line 1: 5 columns", parseIPVS},
		{"no hex", "  0 0 0 g 0 0\n", "line 1: column 4", parseIPVS},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.parse(map[string]int64{}, []byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestDelta(t *testing.T) {
	before := Counters{"client": {"Ip.FragFails": 1, "Tcp.CurrEstab": 3, "Same": 5}}
	after := Counters{"client": {"Ip.FragFails": 3, "Tcp.CurrEstab": 1, "Same": 5, "IcmpMsg.OutType3": 2}, "lb": {"Zero": 0}}
	want := Counters{"client": {"Ip.FragFails": 2, "Tcp.CurrEstab": -2, "IcmpMsg.OutType3": 2}, "lb": {}}
	if got := Delta(before, after); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Whatever the file says, the parsers return; what they accept has a name.
func FuzzCounters(f *testing.F) {
	for _, name := range []string{"snmp", "netstat", "snmp6", "ip_vs_stats_percpu"} {
		f.Add([]byte(testText(f, name)))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, source := range counterSources {
			counters := map[string]int64{}
			if err := source.parse(counters, text); err != nil {
				continue
			}
			if _, ok := counters[""]; ok {
				t.Errorf("%s: a counter without a name", source.name)
			}
		}
	})
}
