// The initramfs of a guest: our binary as init, the closure of modules, the
// job's program with its libraries, files. It is streamed into a memfd, so that
// nothing is left on disk whatever happens to the host process.

package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Paths in the guest. The roles are symbolic links to the one copy of our
// binary: the kernel starts them by rdinit= and kernel.modprobe=.
const (
	selfPath     = "/pmtulab"
	initPath     = "/pmtulab:init"
	modprobePath = "/pmtulab:modprobe"
	jobPath      = "/pmtulab.job"
	modulesDir   = "/lib/modules"
	aliasesPath  = "/lib/modules/aliases"
)

// bootOrder is what init is told: the content of jobPath.
type bootOrder struct {
	Channel channelDevice `json:"channel"`

	Path    string   `json:"path"`
	Args    []string `json:"args"`
	Env     []string `json:"env"`
	Dir     string   `json:"dir"`
	Modules []string `json:"modules"` // files to load, in order
	Outputs []Output `json:"outputs,omitempty"`
	// KeepModprobe leaves kernel.modprobe on for modules that are packed only.
	KeepModprobe bool `json:"keep_modprobe,omitempty"`
}

// packedModule is one line of the guest's own modules.dep.
type packedModule struct {
	Name    string   `json:"name"`
	Aliases []string `json:"aliases,omitempty"`
	// Needs are the names to load before, in order.
	Needs []string `json:"needs,omitempty"`
}

// program is the job's executable on the host.
type program struct {
	path string // on the host
	self bool   // the running binary
}

// findProgram resolves what Job.Path and Job.Args ask for.
func findProgram(job Job) (program, error) {
	self, err := os.Executable()
	if err != nil {
		return program{}, fmt.Errorf("find the running binary: %w", err)
	}
	name := job.Path
	if name == "" && len(job.Args) > 0 {
		name = job.Args[0]
	}
	if name == "" {
		return program{}, errors.New("find the job's program: Args is empty; name a program")
	}
	path, err := lookPath(name, job.Env)
	if err != nil {
		return program{}, err
	}
	a, errA := os.Stat(path)
	b, errB := os.Stat("/proc/self/exe")
	return program{path: path, self: errA == nil && errB == nil && os.SameFile(a, b) || path == self}, nil
}

// lookPath finds an executable on the host's PATH, or on that of the job.
func lookPath(name string, env []string) (string, error) {
	if name == "/proc/self/exe" {
		self, err := os.Executable()
		if err != nil {
			return "", fmt.Errorf("find the running binary: %w", err)
		}
		return self, nil
	}
	candidates := []string{name}
	if !strings.Contains(name, "/") {
		search := os.Getenv("PATH") + ":/usr/local/sbin:/usr/sbin:/sbin"
		for _, kv := range env {
			if v, ok := strings.CutPrefix(kv, "PATH="); ok {
				search = v
			}
		}
		candidates = nil
		for _, dir := range filepath.SplitList(search) {
			if dir != "" {
				candidates = append(candidates, filepath.Join(dir, name))
			}
		}
	}
	for _, c := range candidates {
		info, err := os.Stat(c)
		if err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			abs, err := filepath.Abs(c)
			if err != nil {
				return "", fmt.Errorf("find program %s: %w", name, err)
			}
			return abs, nil
		}
	}
	return "", fmt.Errorf("find program %s: no executable file of that name; install it or name its path: %w", name, fs.ErrNotExist)
}

// memfile makes a file that lives in memory and goes away with its last
// descriptor. The caller closes it.
func memfile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make memory file %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), "memfd:"+name), nil
}

// buildInitramfs packs everything that job needs to run on k. The caller
// closes the file.
func buildInitramfs(k Kernel, channel channelDevice, job Job) (_ *os.File, err error) {
	f, err := memfile("pmtulab-initramfs")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	p := packer{a: newArchive(f)}
	if err := p.all(k, channel, job); err != nil {
		return nil, fmt.Errorf("pack initramfs: %w", err)
	}
	if err := p.a.close(); err != nil {
		return nil, fmt.Errorf("pack initramfs: %w", err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		return nil, fmt.Errorf("pack initramfs: %w", err)
	}
	return f, nil
}

// packer puts files of the host into an archive, each once.
type packer struct {
	a    *archive
	libs *libraries
}

func (p *packer) all(k Kernel, channel channelDevice, job Job) error {
	p.base()
	if err := p.executable("/proc/self/exe", selfPath); err != nil {
		return err
	}
	p.a.symlink(initPath, selfPath)
	p.a.symlink(modprobePath, selfPath)

	prog, err := findProgram(job)
	if err != nil {
		return err
	}
	if prog.self {
		if path := p.path(prog.path); !p.a.has(path) {
			p.a.symlink(path, selfPath)
		}
	} else if err := p.program(prog.path); err != nil {
		return err
	}
	for _, extra := range job.Programs {
		if err := p.extra(extra, job.Env); err != nil {
			return err
		}
	}
	for _, file := range job.Files {
		if err := p.file(file); err != nil {
			return err
		}
	}
	order, err := p.modules(k, channel, job)
	if err != nil {
		return err
	}
	order.Path, order.Args, order.Env, order.Dir = prog.path, job.Args, job.environ(), job.dir()
	for _, o := range job.Outputs {
		order.Outputs = append(order.Outputs, Output{Path: o.Path, Dir: o.Dir}) // the guest need not know Host
	}
	if len(order.Args) == 0 {
		order.Args = []string{prog.path}
	}
	if !p.a.has(order.Dir) {
		p.a.dir(order.Dir, 0o755)
	}
	b, err := json.Marshal(order)
	if err != nil {
		return fmt.Errorf("encode the job: %w", err)
	}
	p.a.bytes(jobPath, 0o644, b)
	return nil
}

// base is what every Unix program takes for granted. init mounts the rest.
func (p *packer) base() {
	for _, dir := range []string{"dev", "etc", "proc", "root", "run", "sys", "tmp", "var"} {
		p.a.dir(dir, 0o755)
	}
	p.a.char("dev/console", 0o600, 5, 1) // the kernel opens it before init runs
	p.a.bytes("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"))
	p.a.bytes("etc/group", 0o644, []byte("root:x:0:\nnogroup:x:65534:\n"))
	p.a.bytes("etc/hosts", 0o644, []byte("127.0.0.1 localhost\n"))
	p.a.bytes("etc/nsswitch.conf", 0o644, []byte("passwd: files\ngroup: files\nhosts: files\n"))
	// A merged /usr, as every distribution has it now: /lib64/ld-linux… and
	// /usr/lib64/ld-linux… are one file.
	for _, dir := range []string{"bin", "lib", "lib64", "sbin"} {
		p.a.dir("usr/"+dir, 0o755)
		p.a.symlink(dir, "usr/"+dir)
	}
}

// path maps a host path into the archive: through the merged /usr.
func (p *packer) path(name string) string {
	name = clean(name)
	for _, dir := range []string{"bin/", "lib/", "lib64/", "sbin/"} {
		if strings.HasPrefix(name, dir) {
			return "usr/" + name
		}
	}
	return name
}

// program packs an executable under its own path, with its libraries.
func (p *packer) program(path string) error { return p.executable(path, path) }

// executable packs the host's file as guest, with its libraries.
func (p *packer) executable(host, guest string) error {
	if err := p.copy(host, guest, 0o755); err != nil {
		return err
	}
	return p.needed(host)
}

// needed packs the loader and the shared libraries of an ELF file, or the
// interpreter of a script.
func (p *packer) needed(host string) error {
	interpreter, err := scriptInterpreter(host)
	if err != nil {
		return err
	}
	if interpreter != "" {
		return p.program(interpreter)
	}
	if p.libs == nil {
		p.libs = newLibraries("/")
	}
	files, err := p.libs.closure(host)
	if err != nil {
		return err
	}
	for _, lib := range files {
		if err := p.copy(lib, lib, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// scriptInterpreter is the program of a "#!" line (execve(2)), empty for a
// file without one.
func scriptInterpreter(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", file, err)
	}
	defer f.Close()
	head := make([]byte, 256) // BINPRM_BUF_SIZE
	n, err := f.Read(head)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read %s: %w", file, err)
	}
	line, ok := strings.CutPrefix(string(head[:n]), "#!")
	if !ok {
		return "", nil
	}
	line, _, _ = strings.Cut(line, "\n")
	if words := strings.Fields(line); len(words) > 0 {
		return words[0], nil
	}
	return "", nil
}

func (p *packer) extra(extra Program, env []string) error {
	path, err := lookPath(extra.Path, env)
	if err != nil {
		return err
	}
	if err := p.program(path); err != nil {
		return err
	}
	for _, pattern := range extra.Plugins {
		plugins, err := filepath.Glob(pattern)
		if err != nil {
			return fmt.Errorf("find plug-ins of %s: %s: %w", extra.Path, pattern, err)
		}
		for _, plugin := range plugins {
			if err := p.program(plugin); err != nil {
				return err
			}
		}
	}
	return nil
}

// file packs one entry of Job.Files; a directory with all below it.
func (p *packer) file(f File) error {
	if !filepath.IsAbs(f.Path) {
		return fmt.Errorf("pack %s: the path in the guest is not absolute", f.Path)
	}
	if f.Source == "" {
		mode := f.Mode.Perm()
		if mode == 0 {
			mode = 0o644
		}
		p.a.bytes(p.path(f.Path), mode, f.Data)
		return nil
	}
	err := filepath.WalkDir(f.Source, func(host string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(f.Source, host)
		if err != nil {
			return err //nolint:wrapcheck // wrapped below
		}
		guest := filepath.Join(f.Path, rel)
		switch {
		case d.IsDir():
			p.a.dir(p.path(guest), 0o755)
			return nil
		case d.Type()&fs.ModeSymlink != 0 && rel != ".":
			target, err := os.Readlink(host)
			if err != nil {
				return err //nolint:wrapcheck // wrapped below
			}
			if !p.a.has(p.path(guest)) {
				p.a.symlink(p.path(guest), target)
			}
			return nil
		case d.Type().IsRegular() || rel == ".":
			return p.copy(host, guest, f.Mode.Perm())
		default:
			return fmt.Errorf("%s is neither a file nor a directory", host)
		}
	})
	if err != nil {
		return fmt.Errorf("pack %s as %s: %w", f.Source, f.Path, err)
	}
	return nil
}

// copy packs one regular file; mode 0 keeps the host's. A file that is there
// already is not packed twice.
func (p *packer) copy(host, guest string, mode fs.FileMode) error {
	guest = p.path(guest)
	if p.a.has(guest) {
		return nil
	}
	f, err := os.Open(host)
	if err != nil {
		return fmt.Errorf("pack %s: %w", host, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("pack %s: %w", host, err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("pack %s: not a regular file", host)
	}
	if mode == 0 {
		mode = info.Mode().Perm()
	}
	p.a.file(guest, mode, info.Size(), f)
	return p.a.err
}

// modules packs the closure of the job's modules, and of those of the channel,
// and says what to load.
func (p *packer) modules(k Kernel, channel channelDevice, job Job) (bootOrder, error) {
	order := bootOrder{Channel: channelDevice{Serial: channel.Serial}}
	if len(channel.Modules)+len(job.Modules)+len(job.OptionalModules)+len(job.OnDemand) == 0 {
		return order, nil
	}
	tree, err := openModuleTree(k.Modules)
	if err != nil {
		return order, err
	}
	port, err := tree.closure(channel.Modules, nil)
	var missing *ModuleError
	switch {
	case errors.As(err, &missing): // the serial line must do
		port = nil
	case err != nil:
		return order, err
	default:
		order.Channel = channelDevice{Serial: channel.Serial, Port: channel.Port, Modules: moduleFiles(port)}
	}
	load, err := tree.closure(job.Modules, job.OptionalModules)
	if err != nil {
		return order, err
	}
	order.Modules = moduleFiles(load)
	all, err := tree.closure(slices.Concat(job.Modules, job.OnDemand), job.OptionalModules)
	if err != nil {
		return order, err
	}
	order.KeepModprobe = len(job.OnDemand) > 0
	var table []packedModule
	for _, m := range all {
		entry := packedModule{Name: m.name, Aliases: m.aliases}
		for _, need := range slices.Concat(m.pre, m.depends) {
			if file, ok := tree.resolve(need, false); ok && file != "" {
				entry.Needs = append(entry.Needs, file)
			}
		}
		table = append(table, entry)
	}
	for _, m := range slices.Concat(port, all) {
		if file := p.path(moduleFile(m)); !p.a.has(file) {
			p.a.bytes(file, 0o644, m.image)
		}
	}
	if order.KeepModprobe {
		b, err := json.Marshal(table)
		if err != nil {
			return order, fmt.Errorf("encode the table of aliases: %w", err)
		}
		p.a.bytes(p.path(aliasesPath), 0o644, b)
	}
	return order, p.a.err
}

// moduleFile is a module's path in the guest.
func moduleFile(m *loadedModule) string { return filepath.Join(modulesDir, m.name+".ko") }

func moduleFiles(modules []*loadedModule) []string {
	var files []string
	for _, m := range modules {
		files = append(files, moduleFile(m))
	}
	return files
}
