package guest

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestChooseAccelerator(t *testing.T) {
	program := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(program, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	denied := errors.New("no permission to open /dev/kvm")
	good, bad := &finding{Usable: true, Reason: proven}, &finding{Reason: "kvm gave no output for 5.0 s"}
	for name, tt := range map[string]struct {
		asked    string
		unusable error
		known    *finding
		want     acceleration
		err      string
	}{
		"first time":          {want: acceleration{Accelerator{KVM, proven}, true}},
		"known to work":       {known: good, want: acceleration{Accelerator{KVM, proven}, false}},
		"known not to work":   {known: bad, want: acceleration{Accelerator{TCG, bad.Reason}, false}},
		"denied":              {unusable: denied, want: acceleration{Accelerator{TCG, denied.Error()}, false}},
		"denied since":        {unusable: denied, known: good, want: acceleration{Accelerator{TCG, denied.Error()}, false}},
		"tcg asked for":       {asked: TCG, known: good, want: acceleration{Accelerator{TCG, "asked for"}, false}},
		"kvm asked for":       {asked: KVM, want: acceleration{Accelerator{KVM, proven}, true}},
		"kvm again":           {asked: KVM, known: bad, want: acceleration{Accelerator{KVM, proven}, true}},
		"kvm asked, denied":   {asked: KVM, unusable: denied, err: "use KVM as asked for: no permission to open /dev/kvm; leave the choice to auto"},
		"something asked for": {asked: "xen", err: `accelerator "xen" is not known`},
	} {
		t.Run(name, func(t *testing.T) {
			memory := findings(filepath.Join(t.TempDir(), "accel.json"))
			if tt.known != nil {
				memory.remember(program, *tt.known)
			}
			got, err := chooseAccelerator(machineSpec{Program: program, Kernel: Kernel{Accelerator: tt.asked}}, memory, tt.unusable)
			if got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
			if (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error is %v, want %q", err, tt.err)
			}
		})
	}
}

// What is not root's may not be opened by others; a thread that has another
// user's rights to files ends with its goroutine.
func TestOpenKVMWithoutPermission(t *testing.T) {
	device := filepath.Join(t.TempDir(), "kvm")
	if err := os.WriteFile(device, nil, 0); err != nil {
		t.Fatal(err)
	}
	denied := make(chan error)
	go func() {
		runtime.LockOSThread()
		_, _ = unix.SetfsuidRetUid(65534)
		denied <- openKVM(device)
	}()
	if err := <-denied; err == nil || err.Error() != "no permission to open "+device {
		t.Errorf("error is %v", err)
	}
}

func TestOpenKVM(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "loop")
	if err := os.Symlink(link, link); err != nil {
		t.Fatal(err)
	}
	for device, want := range map[string]string{
		filepath.Join(dir, "none"): "there is no ", link: "does not open: " + syscall.ELOOP.Error(), os.DevNull: "",
	} {
		err := openKVM(device)
		if (err != nil) != (want != "") || err != nil && (!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), device)) {
			t.Errorf("%s: %v, want %q", device, err, want)
		}
	}
}
