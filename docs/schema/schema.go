// Package schema holds the JSON Schemas of the files that pmtulab reads and
// writes. Its test generates them from the Go types.
package schema

import "embed"

// Files are the schemas, NAME.json each.
//
//go:embed *.json
var Files embed.FS

// Names are the names of the schemas.
func Names() []string {
	return []string{"topology", "scenario", "result", "series", "comparison", "survey", "kernels", "matrix", "sighting"}
}
