//go:build linux && uml

package main

import "testing"

// TestUML runs the scripts that boot User-Mode Linux.
func TestUML(t *testing.T) { scripts(t, "uml") }

// TestVMOnUML runs those of vm that are the same on every machine.
func TestVMOnUML(t *testing.T) { scripts(t, "vm", goEnv("KERNEL=uml")...) }
