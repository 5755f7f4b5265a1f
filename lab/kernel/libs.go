// A User-Mode Linux of a newer release of Debian than this system needs a
// newer C library than this system has. The cache holds that library beside
// it, and a copy of the executable that names the dynamic loader there. Calling
// the loader with the executable as argument would not do: User-Mode Linux
// takes its heap for the end of its own image, and executes /proc/self/exe.

package kernel

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	loader = "ld-linux-x86-64.so.2"
	// ownLibsFile is the executable that uses the libraries of the cache.
	ownLibsFile = "linux.uml-own-libs"
)

// adapt finds out by use whether a User-Mode Linux runs here with the system's
// libraries, and if not, makes it run with those in libs, which may be absent.
func (k *Kernel) adapt(ctx context.Context, libs string) error {
	first := starts(ctx, k.Image, "")
	if first == nil {
		return nil
	}
	ld := filepath.Join(libs, loader)
	if _, err := os.Stat(ld); libs == "" || err != nil {
		return fmt.Errorf("kernel %s: %s does not run on this system: %w", k.Ref, k.Image, first)
	}
	own := filepath.Join(filepath.Dir(libs), ownLibsFile)
	if interpreter(own) != ld { // not there yet, or the cache was moved
		if err := setInterpreter(k.Image, own, ld); err != nil {
			return fmt.Errorf("kernel %s: make it use the libraries in %s: %w", k.Ref, libs, err)
		}
	}
	if err := starts(ctx, own, libs); err != nil {
		return fmt.Errorf("kernel %s: %s does not run on this system (%w), nor with the libraries in %s: %w", k.Ref, k.Image, first, libs, err)
	}
	k.Image, k.Libs = own, libs
	return nil
}

// starts executes a User-Mode Linux that only prints its release.
func starts(ctx context.Context, image, libs string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, image, "--version")
	if libs != "" {
		cmd.Env = []string{"LD_LIBRARY_PATH=" + libs}
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	if text := strings.TrimSpace(stderr.String()); err != nil && text != "" {
		return errors.New(text)
	}
	return err //nolint:wrapcheck // the caller names the image
}

// interpreter is the dynamic loader that an executable names, or "".
func interpreter(file string) string {
	f, err := elf.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP && p.Filesz < 4096 {
			b := make([]byte, p.Filesz)
			if _, err := p.ReadAt(b, 0); err == nil {
				return strings.TrimRight(string(b), "\x00")
			}
		}
	}
	return ""
}

// setInterpreter copies an executable and lets the copy name another dynamic
// loader. The name is added at the end of the file, and the program header
// told where: nothing moves, whatever the length of the path.
func setInterpreter(src, dst, interp string) error {
	image, err := os.ReadFile(src)
	if err != nil {
		return err //nolint:wrapcheck // names the file
	}
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return err //nolint:wrapcheck // says that it reads an ELF file
	}
	const headerSize, offset, fileSize, memSize = 56, 8, 32, 40 // of Elf64_Phdr
	le := binary.LittleEndian
	table := le.Uint64(image[32:]) // e_phoff
	for i, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		header := image[table+uint64(i)*headerSize:]
		name := append([]byte(interp), 0)
		le.PutUint64(header[offset:], uint64(len(image)))
		le.PutUint64(header[fileSize:], uint64(len(name)))
		le.PutUint64(header[memSize:], uint64(len(name)))
		return replaceFile(dst, append(image, name...), 0o755)
	}
	return errors.New("it is not dynamically linked")
}
