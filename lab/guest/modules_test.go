package guest

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// moduleDir makes a tree of modules: file name → .modinfo with "|" for NUL.
func moduleDir(t *testing.T, modules map[string]string, builtin string) string {
	t.Helper()
	dir := t.TempDir()
	for file, info := range modules {
		image := elfFile{modinfo: strings.ReplaceAll(info, "|", "\x00") + "\x00"}.bytes(t)
		path := filepath.Join(dir, "kernel", file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, compressed(t, file, image), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "modules.builtin"), []byte(builtin), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func compressed(t *testing.T, file string, image []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch filepath.Ext(file) {
	case ".xz":
		w, err = xz.NewWriter(&b)
	case ".zst":
		w, err = zstd.NewWriter(&b)
	case ".gz":
		w = gzip.NewWriter(&b)
	default:
		return image
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(image); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestClosure(t *testing.T) {
	tree, err := openModuleTree(moduleDir(t, map[string]string{
		"net/ip_vs.ko.xz":             "depends=nf_conntrack,libcrc32c|license=GPL",
		"net/ip_vs_rr.ko":             "depends=ip_vs",
		"net/nf_conntrack.ko":         "depends=nf-defrag-ipv4,libcrc32c",
		"net/nf_defrag_ipv4.ko":       "depends=",
		"lib/libcrc32c.ko.zst":        "depends=|softdep=pre: crc32c",
		"crypto/crc32c-generic.ko.gz": "depends=|alias=crypto-crc32c|alias=crc32c",
		"net/ipip.ko":                 "depends=tunnel4,ip_tunnel|alias=netdev-tunl0|alias=rtnl-link-ipip",
		"net/tunnel4.ko":              "depends=",
		"net/broken.ko":               "depends=tunnel4,absent",
		"net/act.ko":                  "depends=|softdep=pre: absent post: tunnel4",
		"a.ko":                        "softdep=pre: b",
		"b.ko":                        "softdep=pre: a",
		"net/nf_tables.ko":            "depends=",
		"net/nft_chain_nat.ko":        "depends=nf_tables",
		"drivers/pci.ko":              "alias=pci:v00008086d*sv*",
	}, "kernel/net/ip_tunnel.ko\nkernel/drivers/net/veth.ko\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, wanted, optional, want, missing string
	}{
		{name: "dependencies and softdeps first, run-time requests last", wanted: "ip_vs", want: "nf_defrag_ipv4 crc32c_generic libcrc32c nf_conntrack ip_vs ip_vs_rr"},
		{name: "each once", wanted: "ip_vs_rr ip_vs nf_conntrack", want: "nf_defrag_ipv4 crc32c_generic libcrc32c nf_conntrack ip_vs ip_vs_rr"},
		{name: "dashes", wanted: "nf-defrag-ipv4", want: "nf_defrag_ipv4"},
		{name: "built in", wanted: "veth", want: ""},
		{name: "needs something built in", wanted: "ipip", want: "tunnel4 ipip"},
		{name: "alias", wanted: "rtnl-link-ipip", want: "tunnel4 ipip"},
		{name: "alias pattern", wanted: "pci:v00008086d00001234sv1", want: "pci"},
		{name: "run-time request", wanted: "nf_tables", want: "nf_tables nft_chain_nat"},
		{name: "post softdep; missing softdep", wanted: "act", want: "act tunnel4"},
		{name: "cycle of softdeps", wanted: "a", want: "b a"},
		{name: "missing", wanted: "tunnel4 nothing", missing: "nothing"},
		{name: "missing dependency", wanted: "broken", missing: "absent"},
		{name: "optional, there", optional: "tunnel4", want: "tunnel4"},
		{name: "optional, missing", wanted: "veth", optional: "nothing", want: ""},
		{name: "optional with a missing dependency, then its part", optional: "broken tunnel4", want: "tunnel4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			order, err := tree.closure(strings.Fields(tt.wanted), strings.Fields(tt.optional))
			var missing *ModuleError
			if tt.missing != "" {
				if !errors.As(err, &missing) || missing.Module != tt.missing {
					t.Errorf("error is %v, want a ModuleError of %s", err, tt.missing)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, m := range order {
				names = append(names, m.name)
				if !bytes.HasPrefix(m.image, []byte("\x7fELF")) {
					t.Errorf("%s is not decompressed", m.name)
				}
			}
			if got := strings.Join(names, " "); got != tt.want {
				t.Errorf("closure is %q, want %q", got, tt.want)
			}
		})
	}
}

func TestClosureOfDamagedFiles(t *testing.T) {
	dir := t.TempDir()
	for _, file := range []string{"plain.ko", "xz.ko.xz", "zst.ko.zst", "gz.ko.gz"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte("not a module at all, whatever its name"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := openModuleTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"plain", "xz", "zst", "gz"} {
		if _, err := tree.closure([]string{name}, nil); err == nil || !strings.Contains(err.Error(), name+".ko") {
			t.Errorf("error is %v; want one that names the file", err)
		}
	}
}

func TestBuiltinNames(t *testing.T) {
	got := builtinNames([]byte("crc32c_generic.alias=crypto-crc32c\x00crc32c_generic.license=GPL\x00pci-x.alias=pci:v*\x00junk\x00a=b\x00"))
	if want := []string{"crc32c_generic", "crypto_crc32c", "pci_x"}; !slices.Equal(got, want) {
		t.Errorf("names are %q, want %q", got, want)
	}
}

func TestProbeOrder(t *testing.T) {
	table := []packedModule{
		{Name: "tunnel4"},
		{Name: "ipip", Aliases: []string{"rtnl-link-ipip", "netdev-tunl*"}, Needs: []string{"tunnel4"}},
		{Name: "loop_a", Needs: []string{"loop_a"}},
	}
	for name, want := range map[string][]string{
		"ipip": {"tunnel4", "ipip"}, "rtnl-link-ipip": {"tunnel4", "ipip"}, "netdev-tunl0": {"tunnel4", "ipip"},
		"tunnel4": {"tunnel4"}, "loop-a": {"loop_a"}, "other": nil,
	} {
		if got := probeOrder(table, name); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func FuzzParseModinfo(f *testing.F) {
	f.Add([]byte("depends=a,b-c\x00softdep=pre: x post: y\x00alias=z\x00\x00name=q"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := parseModinfo(b)
		for _, name := range slices.Concat(m.depends, m.pre, m.post) {
			if strings.ContainsAny(name, "-/\x00") {
				t.Errorf("%q is not in canonical form", name)
			}
		}
		builtinNames(b)
	})
}

func FuzzReadModinfo(f *testing.F) {
	f.Add(elfFile{modinfo: "depends=a\x00"}.bytes(f))
	f.Add(elfFile{interp: "/ld.so", needed: []string{"libc.so"}}.bytes(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = readModinfo(bytes.NewReader(b))
	})
}
