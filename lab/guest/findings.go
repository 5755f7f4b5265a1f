// What was found out about KVM, kept from one command to the next in
// accel.json below the user's cache directory.

package guest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// finding is whether KVM works, for one key.
type finding struct {
	Key    findingKey `json:"key"`
	Usable bool       `json:"usable"`
	Reason string     `json:"reason"`
}

// findingKey is all that a finding depends on.
type findingKey struct {
	// BootID is the host's; it changes with every boot.
	BootID string `json:"boot_id"`
	// CPU is the model of the host's processor: a virtual machine can be moved
	// to another while it runs.
	CPU string `json:"cpu"`
	// QEMU is the emulator's file, with the size in bytes and the time of
	// modification that an upgrade changes.
	QEMU  string `json:"qemu"`
	Size  int64  `json:"size"`
	MTime int64  `json:"mtime_ns"`
}

// findings is the file that keeps findings; empty: they are kept nowhere. A
// file that cannot be read or written costs another trial, and is no error.
type findings string

// maxFindings bounds the file; the newest are kept.
const maxFindings = 16

func userFindings() findings {
	dir, err := os.UserCacheDir() // $XDG_CACHE_HOME, or .cache in $HOME
	if err != nil {
		return ""
	}
	return findings(filepath.Join(dir, "pmtulab", "accel.json"))
}

// recall is what was found for this emulator, on this machine, since it was
// booted.
func (f findings) recall(qemu string) (finding, bool) {
	key, err := newFindingKey(qemu)
	if err != nil {
		return finding{}, false
	}
	for _, known := range f.read() {
		if known.Key == key {
			return known, true
		}
	}
	return finding{}, false
}

// remember keeps a finding for this emulator, in place of the one before and
// of those from before the last boot.
func (f findings) remember(qemu string, found finding) {
	key, err := newFindingKey(qemu)
	if err != nil || f == "" {
		return
	}
	found.Key = key
	all := slices.DeleteFunc(f.read(), func(k finding) bool { return k.Key == key || k.Key.BootID != key.BootID })
	all = append(all, found)
	b, err := json.MarshalIndent(all[max(0, len(all)-maxFindings):], "", "  ")
	if err != nil {
		return
	}
	// One name for all writers: what a killed one leaves, the next one uses.
	next := string(f) + ".new"
	if os.MkdirAll(filepath.Dir(next), 0o755) == nil && os.WriteFile(next, append(b, '\n'), 0o644) == nil {
		_ = os.Rename(next, string(f))
	}
}

// read returns what the file holds, nothing when it is not to be understood.
func (f findings) read() []finding {
	file, err := os.Open(string(f))
	if err != nil {
		return nil
	}
	defer file.Close()
	var all []finding
	if err := json.NewDecoder(io.LimitReader(file, 64<<10)).Decode(&all); err != nil {
		return nil
	}
	return all
}

func newFindingKey(qemu string) (findingKey, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return findingKey{}, fmt.Errorf("read the boot id: %w", err)
	}
	cpu, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return findingKey{}, fmt.Errorf("read the processor's model: %w", err)
	}
	info, err := os.Stat(qemu)
	if err != nil {
		return findingKey{}, fmt.Errorf("examine the emulator: %w", err)
	}
	return findingKey{
		BootID: string(bytes.TrimSpace(id)), CPU: cpuModel(cpu),
		QEMU: qemu, Size: info.Size(), MTime: info.ModTime().UnixNano(),
	}, nil
}

// cpuModel is the model name of the first processor in /proc/cpuinfo.
func cpuModel(cpuinfo []byte) string {
	for line := range bytes.Lines(cpuinfo) {
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && string(bytes.TrimSpace(name)) == "model name" {
			return string(bytes.TrimSpace(value))
		}
	}
	return ""
}
