// The kernel's tracing files.

package ktrace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// tracefs is a directory with the kernel's tracing files.
type tracefs struct {
	dir string
	// mount holds a mount of our own, which has no place in any tree; -1 where
	// the system has mounted it.
	mount int
}

// openTracefs finds the tracing files where they are mounted, or mounts them
// for this process alone. A second mount would reset the owner and mode that
// the first was given.
func openTracefs() (tracefs, error) {
	for _, dir := range []string{"/sys/kernel/tracing", "/sys/kernel/debug/tracing"} {
		var s unix.Statfs_t
		if unix.Statfs(dir, &s) == nil && s.Type == unix.TRACEFS_MAGIC {
			return tracefs{dir, -1}, nil
		}
	}
	context, err := unix.Fsopen("tracefs", unix.FSOPEN_CLOEXEC)
	switch {
	case errors.Is(err, unix.ENODEV):
		return tracefs{}, errors.New("this kernel has no tracefs")
	case err != nil:
		return tracefs{}, fmt.Errorf("open tracefs: %w", err)
	}
	defer unix.Close(context)
	if err := unix.FsconfigCreate(context); err != nil {
		return tracefs{}, fmt.Errorf("make a tracefs: %w", err)
	}
	mount, err := unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return tracefs{}, fmt.Errorf("mount tracefs: %w", err)
	}
	return tracefs{fmt.Sprintf("/proc/self/fd/%d", mount), mount}, nil
}

func (t tracefs) close() {
	if t.mount >= 0 {
		_ = unix.Close(t.mount) // nothing can be done about it
	}
}

// write appends to a file: to open kprobe_events for writing in any other way
// removes the probes of everybody.
func (t tracefs) write(file, text string) error {
	f, err := os.OpenFile(filepath.Join(t.dir, file), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err //nolint:wrapcheck // it names the file
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// groups are the probes of the groups whose names begin with ours, by group, in
// the form GROUP/EVENT.
func (t tracefs) groups() (map[string][]string, error) {
	text, err := os.ReadFile(filepath.Join(t.dir, "kprobe_events"))
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the file
	}
	found := map[string][]string{}
	for line := range strings.Lines(string(text)) { // p:GROUP/EVENT SYMBOL …, r32:GROUP/EVENT …
		head, _, _ := strings.Cut(line, " ")
		_, event, _ := strings.Cut(head, ":")
		if group, _, _ := strings.Cut(event, "/"); strings.HasPrefix(group, prefix) {
			found[group] = append(found[group], event)
		}
	}
	return found, nil
}

// prefix is how the names of instances and groups of ours begin.
const prefix = "pmtulab_"

// own makes an instance that nobody else removes: its owner holds a lock, which
// the kernel drops with the process.
func (t tracefs) own(name string) (lock int, err error) {
	dir := t.instance(name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return -1, err //nolint:wrapcheck // it names the directory
	}
	if lock, err = lockDir(dir); err != nil {
		_ = os.Remove(dir)
		return -1, err
	}
	return lock, nil
}

func (t tracefs) instance(name string) string { return filepath.Join(t.dir, "instances", name) }

func lockDir(dir string) (int, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", dir, err)
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("lock %s: %w", dir, err)
	}
	return fd, nil
}

// reap removes what killed processes have left: instances that nobody holds,
// and probes without an instance.
func (t tracefs) reap() error {
	groups, err := t.groups()
	if err != nil {
		return err
	}
	instances, err := filepath.Glob(t.instance(prefix + "*"))
	if err != nil {
		return err //nolint:wrapcheck // a bad pattern
	}
	for _, dir := range instances {
		if name := filepath.Base(dir); groups[name] == nil {
			groups[name] = []string{}
		}
	}
	var errs []error
	for name, events := range groups {
		lock, err := lockDir(t.instance(name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			continue // it is in use
		}
		if lock >= 0 {
			_ = unix.Close(lock)
		}
		errs = append(errs, t.remove(name, events))
	}
	return errors.Join(errs...)
}

// remove takes an instance away, which switches its probes off, and then the
// probes.
func (t tracefs) remove(name string, events []string) error {
	var errs []error
	if err := os.Remove(t.instance(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	for _, event := range events {
		if err := t.write("kprobe_events", "-:"+event+"\n"); err != nil {
			errs = append(errs, fmt.Errorf("remove the probe %s: %w", event, err))
		}
	}
	return errors.Join(errs...)
}
