//go:build linux

package sidecar

import (
	"os"
	"testing"

	"github.com/pmtulab/pmtulab/lab/role"
)

func TestMain(m *testing.M) {
	role.Play(Role())
	os.Exit(m.Run())
}
