package evidence

import (
	"io/fs"
	"path"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

// The headers are all that decode needs, and no byte of payload.
func TestHeaders(t *testing.T) {
	for file, want := range map[string]int{
		"syn":          20 + 40,
		"data":         20 + 32,
		"ipip-syn":     20 + 20 + 40,
		"icmp-from-lb": 20 + 8 + 20 + 32,
		"icmp-to-self": 20 + 8 + 20 + 32,
	} {
		data := testBytes(t, file+".hex")
		if got := headers(unix.ETH_P_IP, decode(data), data); got != want {
			t.Errorf("%s: %d bytes of headers, want %d of %d", file, got, want, len(data))
		}
	}
	for _, c := range []struct {
		what     string
		protocol uint16
		length   int
		want     int
	}{
		{"ARP", unix.ETH_P_ARP, 28, 28},
		{"IPv6", unix.ETH_P_IPV6, 1500, 40},
		{"IPv6 cut short", unix.ETH_P_IPV6, 30, 30},
		{"a protocol that nobody knows", 0x1234, 100, 0},
		{"IPv4 without a header", unix.ETH_P_IP, 19, 0},
	} {
		data := make([]byte, c.length)
		if got := headers(c.protocol, decode(data), data); got != c.want {
			t.Errorf("%s: %d bytes of headers, want %d", c.what, got, c.want)
		}
	}

	udp := testBytes(t, "data.hex")
	udp[9] = 17
	if got := headers(unix.ETH_P_IP, decode(udp), udp); got != 20 {
		t.Errorf("UDP: %d bytes of headers, want those of IP", got)
	}
	fragment := testBytes(t, "data.hex")
	fragment[7] = 185
	if got := headers(unix.ETH_P_IP, decode(fragment), fragment); got != 20 {
		t.Errorf("later fragment: %d bytes of headers, want those of IP", got)
	}
}

func FuzzHeaders(f *testing.F) {
	files, err := fs.Glob(testdata, "testdata/*.hex")
	if err != nil || len(files) == 0 {
		f.Fatal("no testdata", err)
	}
	for _, file := range files {
		f.Add(testBytes(f, path.Base(file)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p := decode(data)
		n := headers(unix.ETH_P_IP, p, data)
		if n < 0 || n > len(data) {
			t.Fatalf("%d bytes of headers in %d bytes", n, len(data))
		}
		if cut := decode(data[:n]); !reflect.DeepEqual(cut, p) {
			t.Fatalf("without payload it is %s, with it %s", packetText(cut), packetText(p))
		}
		const deepest = maxNesting * (60 + 8 + 60) // IP, ICMP, TCP
		if n > deepest {
			t.Fatalf("%d bytes of headers", n)
		}
	})
}
