package guest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"testing"
)

// elfFile builds the smallest 64-bit ELF file that holds what the readers of
// this package look at.
type elfFile struct {
	modinfo string // content of .modinfo
	interp  string
	needed  []string
	runpath string
}

func (e elfFile) bytes(t testing.TB) []byte {
	t.Helper()
	type section struct {
		elf.Section64
		name string
		data []byte
	}
	sections := []section{{}}
	if e.modinfo != "" {
		sections = append(sections, section{elf.Section64{Type: uint32(elf.SHT_PROGBITS)}, ".modinfo", []byte(e.modinfo)})
	}
	if e.interp != "" {
		sections = append(sections, section{elf.Section64{Type: uint32(elf.SHT_PROGBITS)}, ".interp", []byte(e.interp + "\x00")})
	}
	if len(e.needed) > 0 {
		strs := []byte{0}
		var dynamic bytes.Buffer
		add := func(tag elf.DynTag, s string) {
			_ = binary.Write(&dynamic, binary.LittleEndian, elf.Dyn64{Tag: int64(tag), Val: uint64(len(strs))})
			strs = append(append(strs, s...), 0)
		}
		for _, lib := range e.needed {
			add(elf.DT_NEEDED, lib)
		}
		if e.runpath != "" {
			add(elf.DT_RUNPATH, e.runpath)
		}
		_ = binary.Write(&dynamic, binary.LittleEndian, elf.Dyn64{})
		n := uint32(len(sections))
		sections = append(sections,
			section{elf.Section64{Type: uint32(elf.SHT_STRTAB)}, ".dynstr", strs},
			section{elf.Section64{Type: uint32(elf.SHT_DYNAMIC), Link: n, Entsize: 16}, ".dynamic", dynamic.Bytes()})
	}
	names := []byte{0}
	sections = append(sections, section{elf.Section64{Type: uint32(elf.SHT_STRTAB)}, ".shstrtab", nil})
	for i := range sections[1:] {
		sections[i+1].Name = uint32(len(names))
		names = append(append(names, sections[i+1].name...), 0)
	}
	sections[len(sections)-1].data = names

	const headerSize, progSize, sectionSize = 64, 56, 64
	var progs []elf.Prog64
	offset := uint64(headerSize)
	if e.interp != "" {
		offset += progSize
	}
	var body bytes.Buffer
	for i := range sections {
		s := &sections[i]
		s.Off, s.Size, s.Addralign = offset+uint64(body.Len()), uint64(len(s.data)), 1
		if s.name == ".interp" {
			progs = append(progs, elf.Prog64{Type: uint32(elf.PT_INTERP), Off: s.Off, Filesz: s.Size})
		}
		body.Write(s.data)
	}
	header := elf.Header64{
		Type: uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Phoff: headerSize, Shoff: offset + uint64(body.Len()), Ehsize: headerSize,
		Phentsize: progSize, Phnum: uint16(len(progs)),
		Shentsize: sectionSize, Shnum: uint16(len(sections)), Shstrndx: uint16(len(sections) - 1),
	}
	copy(header.Ident[:], "\x7fELF\x02\x01\x01")
	var out bytes.Buffer
	_ = binary.Write(&out, binary.LittleEndian, header)
	for _, p := range progs {
		_ = binary.Write(&out, binary.LittleEndian, p)
	}
	out.Write(body.Bytes())
	for _, s := range sections {
		_ = binary.Write(&out, binary.LittleEndian, s.Section64)
	}
	return out.Bytes()
}
