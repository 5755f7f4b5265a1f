//go:build linux

package lab

import (
	"slices"

	"github.com/pmtulab/pmtulab/lab/role"
	"github.com/pmtulab/pmtulab/lab/sidecar"
)

// Main plays the roles in which the lab re-executes the running program, and
// the extra ones. A program that uses the lab calls it first thing in main, a
// test binary in TestMain. It returns when this process plays none of them.
func Main(extra ...role.Role) {
	role.Play(slices.Concat([]role.Role{sidecar.Role()}, extra)...)
}
