package role_test

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/pmtulab/pmtulab/lab/role"
	"github.com/pmtulab/pmtulab/lab/sidecar"
)

const roleEcho = "test-echo"

func TestMain(m *testing.M) {
	role.Play(role.Role{Name: roleEcho, Main: func(args []string) int {
		_, _ = os.Stdout.WriteString(strings.Join(args, " "))
		return 7
	}})
	m.Run()
}

func TestCommandPlaysItsRole(t *testing.T) {
	out, err := role.Command(t.Context(), roleEcho, "a", "b").Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 || string(out) != "a b" {
		t.Errorf("printed %q, %v", out, err)
	}
}

// A program that forgot lab.Main is told so. It is not executed again: this
// test would run once more, and so on without end.
func TestForgottenRole(t *testing.T) {
	ns := sidecar.Namespace{
		Do:    func(f func() error) error { return f() },
		Start: func(cmd *exec.Cmd) error { return cmd.Start() },
	}
	p, err := sidecar.Start(t.Context(), sidecar.Config{}, ns)
	if err == nil {
		_ = p.Close()
	}
	if !errors.Is(err, role.ErrNotOffered) || !strings.Contains(err.Error(), `role "sidecar"`) || !strings.Contains(err.Error(), "call lab.Main first thing in main") {
		t.Errorf("a sidecar in a program without its role: %v", err)
	}
}
