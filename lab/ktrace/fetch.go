// Where the kernel keeps what a probe fetches.

package ktrace

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf/btf"
)

// types are those of the running kernel.
type types struct{ spec *btf.Spec }

// params are the names of f's parameters on this kernel, where it knows them:
// it keeps no types of functions whose parameters the compiler has changed.
func (t types) params(f function) []string {
	var found *btf.Func
	if err := t.spec.TypeByName(f.name, &found); err != nil {
		return f.params
	}
	var names []string
	if proto, ok := found.Type.(*btf.FuncProto); ok {
		for _, p := range proto.Params {
			names = append(names, p.Name)
		}
	}
	return names
}

// registers hold the arguments of a call on x86-64. Kernels have other names for
// them, "$arg1", but answer EINVAL to these for a function that is not there.
var registers = []string{"di", "si", "dx", "cx", "r8", "r9"}

// fetch is the argument of a kprobe definition that fetches what is at path: a
// parameter, fields from there on with points between, through pointers, and
// at the end perhaps "+12:u32" for bytes that have no type.
func (t types) fetch(name, path string, params []string) (string, error) {
	parts := strings.Split(path, ".")
	n := slices.Index(params, parts[0])
	if n < 0 {
		return "", fmt.Errorf("it has no parameter %s, but %s", parts[0], strings.Join(params, ", "))
	}
	if n >= len(registers) {
		return "", fmt.Errorf("its parameter %s is on the stack", parts[0])
	}
	expr := "%" + registers[n]
	if len(parts) == 1 {
		return fmt.Sprintf("%s=%s:u32", name, expr), nil
	}
	var root *btf.Struct
	if err := t.spec.TypeByName(roots[parts[0]], &root); err != nil {
		return "", fmt.Errorf("find struct %s in the types of the kernel: %w", roots[parts[0]], err)
	}
	var at btf.Type = root
	offset := uint32(0)
	for _, part := range parts[1:] {
		if pointer, ok := btf.As[*btf.Pointer](at); ok {
			expr, offset, at = fmt.Sprintf("+%d(%s)", offset, expr), 0, pointer.Target
		}
		if literal, kind, ok := strings.Cut(part, ":"); ok {
			return fmt.Sprintf("%s=%s(%s):%s", name, literal, expr, kind), nil
		}
		more, field, ok := member(at, part)
		if !ok {
			return "", fmt.Errorf("find %s in the types of the kernel: there is no field %s", path, part)
		}
		offset, at = offset+more, field
	}
	size, err := btf.Sizeof(at)
	if err != nil {
		return "", fmt.Errorf("find the size of %s: %w", path, err)
	}
	return fmt.Sprintf("%s=+%d(%s):u%d", name, offset, expr, 8*size), nil
}

// member finds a field of a structure or union, also within those of its
// fields that have no name.
func member(in btf.Type, name string) (offset uint32, field btf.Type, ok bool) {
	var members []btf.Member
	switch t := btf.UnderlyingType(in).(type) {
	case *btf.Struct:
		members = t.Members
	case *btf.Union:
		members = t.Members
	}
	for _, m := range members {
		if m.Name == name {
			return m.Offset.Bytes(), m.Type, true
		}
		if m.Name == "" {
			if more, field, ok := member(m.Type, name); ok {
				return m.Offset.Bytes() + more, field, true
			}
		}
	}
	return 0, nil, false
}
