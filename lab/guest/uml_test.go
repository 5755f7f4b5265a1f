//go:build linux && uml

// Real guests on User-Mode Linux. Run as root and as an ordinary user:
//
//	go test -tags uml ./lab/guest

package guest_test

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"github.com/pmtulab/pmtulab/lab/guest"
	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/role"
)

func TestMain(m *testing.M) {
	role.Play(guest.Roles()...)
	if len(os.Args) > 2 && os.Args[1] == "job" {
		os.Exit(job(os.Args[2], os.Args[3:]))
	}
	os.Exit(m.Run())
}

// job is what the tests run in a guest.
func job(name string, args []string) int {
	switch name {
	case "exit":
		var code int
		fmt.Sscan(args[0], &code)
		fmt.Println("standard output")
		fmt.Fprintln(os.Stderr, "standard error")
		return code
	}
	return 99
}

func kernel(t testing.TB) guest.Kernel {
	t.Helper()
	k, err := guest.FindUML()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestExitCode(t *testing.T) {
	for _, code := range []int{0, 7} {
		var stdout, stderr bytes.Buffer
		r, err := guest.Run(t.Context(), kernel(t), guest.Job{
			Path: "/proc/self/exe", Args: []string{"self", "job", "exit", fmt.Sprint(code)},
			Stdout: &stdout, Stderr: &stderr,
		})
		if err != nil {
			t.Fatal(err, r.Detail, string(r.KernelLog))
		}
		t.Log(r.Outcome, r.Detail, r.Phases)
		if r.Outcome != record.GuestFinished || r.ExitCode != code {
			t.Errorf("%s, exit code %d, want %s, %d: %s\n%s", r.Outcome, r.ExitCode, record.GuestFinished, code, r.Detail, r.KernelLog)
		}
		if stdout.String() != "standard output\n" || stderr.String() != "standard error\n" {
			t.Errorf("stdout %q, stderr %q", &stdout, &stderr)
		}
	}
}
