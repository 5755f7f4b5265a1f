//go:build linux && qemu

package guest

import (
	"os"
	"testing"

	"github.com/pmtulab/pmtulab/lab/kernel"
)

// An initramfs has little beside the binary: it is copied and unpacked at every
// boot.
func TestInitramfsSize(t *testing.T) {
	const limit = 8 << 20
	self, err := os.Stat("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"5.10", "6.1", "6.12", "7"} {
		k, err := new(kernel.Cache).Resolve(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		f, err := buildInitramfs(bootable(k), qemu{}.channel(), Job{
			Path: "/proc/self/exe", Args: []string{"job"},
			Modules: []string{
				"veth", "bridge", "ipip", "ip_vs", "ip_vs_rr", "inet_diag", "tcp_diag", "nft_chain_nat", "nft_redir", "nft_nat", "nf_conntrack",
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		beside := info.Size() - self.Size()
		t.Logf("Linux %s: %.1f MiB beside the binary", k.Release, float64(beside)/(1<<20))
		if beside > limit {
			t.Errorf("Linux %s: %d bytes beside the binary, want at most %d", k.Release, beside, limit)
		}
	}
}

func bootable(k kernel.Kernel) Kernel {
	return Kernel{Machine: QEMU, Release: k.Release, Image: k.Image, ELF: k.ELF, Modules: k.Modules, Accelerator: TCG}
}
