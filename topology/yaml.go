// Reading and writing a Spec as YAML.

package topology

// Parse reads a topology from YAML and validates it. file is the name for
// problems. The error is Problems: all of them, in the order of the document.
// The Spec is as written, without defaults; it is what could be read when
// there is an error.
func Parse(file string, data []byte) (Spec, error) {
	var spec Spec
	problems := decode(file, data, &spec)
	return spec, problems.Err()
}
