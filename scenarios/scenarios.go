// Package scenarios holds the experiments that are built into the command.
package scenarios

import "embed"

// Files are the scenario files, NAME.yaml each.
//
//go:embed *.yaml
var Files embed.FS
