package sidecar

import "testing"

// What iptables-legacy 1.8 says on kernels without the table nat.
func TestNoTable(t *testing.T) {
	for text, want := range map[string]bool{
		"iptables-restore v1.8.9 (legacy): iptables-restore: unable to initialize table 'nat'\nError occurred at line: 1":                         true,
		"modprobe: FATAL\niptables-restore v1.8.7 (legacy): can't initialize iptables table `nat': Table does not exist (do you need to insmod?)": true,
		"iptables-restore: line 2 failed": false,
	} {
		if got := noTable(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
