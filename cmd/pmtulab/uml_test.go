//go:build linux && uml

package main

import "testing"

// TestUML runs the scripts that boot User-Mode Linux.
func TestUML(t *testing.T) { scripts(t, "uml") }
