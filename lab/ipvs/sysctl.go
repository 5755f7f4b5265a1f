//go:build linux

package ipvs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Directory of the sysctls of IPVS; which namespace it shows depends on the
// thread that looks.
const sysctls = "/proc/sys/net/ipv4/vs"

// Sysctl reads one of net.ipv4.vs.*, such as pmtu_disc or conntrack.
func (h *Handle) Sysctl(name string) (string, error) {
	var value string
	err := h.in(func() error {
		b, err := os.ReadFile(filepath.Join(sysctls, filepath.Base(name)))
		value = strings.TrimSpace(string(b))
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return "", fmt.Errorf("read sysctl net.ipv4.vs.%s: %w", name, err)
	}
	return value, nil
}

// SetSysctl writes one of net.ipv4.vs.*. pmtu_disc 1, the kernel's default, is
// what makes a load balancer in tunnel mode answer a packet that is too long
// with ICMP frag-needed (ensure_mtu_is_adequate).
func (h *Handle) SetSysctl(name, value string) error {
	err := h.in(func() error {
		f, err := os.OpenFile(filepath.Join(sysctls, filepath.Base(name)), os.O_WRONLY, 0)
		if err != nil {
			return err //nolint:wrapcheck // wrapped below
		}
		_, err = f.WriteString(value)
		if e := f.Close(); err == nil {
			err = e
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("set sysctl net.ipv4.vs.%s to %q: %w", name, value, err)
	}
	return nil
}
