// apt with a state of its own: sources, lists and cache are directories of
// ours, so that any user can read other suites than those of the system, and
// nothing of the system changes. The signature checks, the proxy and the
// credentials are those of the system.

package kernel

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrNoApt tells that this system has no apt.
var ErrNoApt = errors.New("there is no apt on this system; give a .deb, an image with modules=DIR, or a directory instead")

// apt runs the programs of apt on a private state in dir.
type apt struct{ dir string }

const (
	aptGet    = "apt-get"
	aptHelper = "/usr/lib/apt/apt-helper"
)

// prepare makes the directories and the sources.
func (a apt) prepare(m mirror) error {
	for _, dir := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(a.dir, dir), 0o755); err != nil {
			return fmt.Errorf("prepare apt's state: %w", err)
		}
	}
	for name, content := range map[string]string{
		"sources.list": sourceList(m),
		// What the system does after its own updates is not for ours.
		"hooks.conf": "#clear APT::Update::Pre-Invoke;\n#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n",
	} {
		if err := os.WriteFile(filepath.Join(a.dir, name), []byte(content), 0o644); err != nil {
			return fmt.Errorf("prepare apt's state: %w", err)
		}
	}
	return nil
}

// options point apt at the private state.
func (a apt) options() []string {
	at := func(name string) string { return filepath.Join(a.dir, name) }
	args := []string{"-c", at("hooks.conf"), "-q"}
	for _, option := range []string{
		"Dir::State=" + a.dir, "Dir::State::Lists=" + at("lists"), "Dir::State::status=/dev/null",
		"Dir::Cache=" + at("cache"),
		"Dir::Etc::SourceList=" + at("sources.list"), "Dir::Etc::SourceParts=/dev/null",
		"Dir::Etc::Preferences=/dev/null", "Dir::Etc::PreferencesParts=/dev/null",
		"Acquire::AllowInsecureRepositories=false", "Acquire::AllowWeakRepositories=false",
		"Acquire::AllowDowngradeToInsecureRepositories=false",
		// Lists as they come: a quarter of the disk, and no time to recompress.
		"Acquire::Languages=none", "Acquire::GzipIndexes=true",
		"Acquire::IndexTargets::deb::Packages::KeepCompressedAs=xz",
		"Acquire::Retries=2", "Acquire::http::Timeout=20", "Acquire::https::Timeout=20",
		"APT::Status-Fd=3",
	} {
		args = append(args, "-o", option)
	}
	return args
}

// update reads the lists of all suites. The text is what apt complained of,
// line by line; suites that failed keep their old lists.
func (a apt) update(ctx context.Context, progress func(fraction float64)) (complaints []string, err error) {
	_, stderr, err := a.run(ctx, progress, aptGet, append(a.options(),
		"-o", "pkgCacheFile::Generate=false", // nobody asks apt about packages
		"update")...)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, fmt.Errorf("read package lists: %w", err)
	}
	return strings.Split(strings.TrimSpace(stderr), "\n"), nil
}

// index is the list of one suite on disk.
type index struct{ suite, file, uri string }

// indexes lists the indexes that have been read, their signatures checked.
func (a apt) indexes(ctx context.Context) ([]index, error) {
	stdout, stderr, err := a.run(ctx, nil, aptGet, append(a.options(),
		"indextargets", "--format", "$(RELEASE) $(REPO_URI) $(FILENAME)", "Identifier: Packages")...)
	if err != nil {
		return nil, fmt.Errorf("list package lists: %w: %s", err, reason(stderr))
	}
	var out []index
	for s := bufio.NewScanner(strings.NewReader(stdout)); s.Scan(); {
		if words := strings.SplitN(s.Text(), " ", 3); len(words) == 3 {
			out = append(out, index{suite: words[0], uri: strings.TrimRight(words[1], "/"), file: words[2]})
		}
	}
	return out, nil
}

// read gives the decompressed content of an index to each.
func (a apt) read(ctx context.Context, i index, each func(io.Reader) error) error {
	cmd := exec.CommandContext(ctx, aptHelper, "cat-file", i.file)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("read list of %s: %w", i.suite, err)
	}
	failed := each(out)
	_, _ = io.Copy(io.Discard, out)
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("read list of %s: %w: %s", i.suite, err, reason(stderr.String()))
	}
	return failed
}

// download fetches uri to file and checks its SHA-256. What is there of file
// is continued, not fetched again.
func (a apt) download(ctx context.Context, uri, file, sha256 string, progress func(fraction float64)) error {
	_, stderr, err := a.run(ctx, progress, aptHelper,
		append(a.options(), "download-file", uri, file, "SHA256:"+sha256)...)
	if err != nil {
		return fmt.Errorf("download %s: %w: %s", uri, err, reason(stderr))
	}
	return nil
}

// systemCommand runs apt on the system's own configuration.
func (a apt) systemCommand(ctx context.Context, name string, args ...string) (string, error) {
	stdout, stderr, err := a.run(ctx, nil, name, args...)
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, reason(stderr))
	}
	return stdout, nil
}

// run runs a program of apt to its end. When ctx ends it is asked to stop, so
// that it leaves a download that can be continued; when this process ends, it
// ends as well.
func (a apt) run(ctx context.Context, progress func(float64), name string, args ...string) (stdout, stderr string, err error) {
	if _, err := exec.LookPath(name); err != nil {
		return "", "", ErrNoApt
	}
	status, statusEnd, err := os.Pipe()
	if err != nil {
		return "", "", fmt.Errorf("run %s: %w", filepath.Base(name), err)
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.ExtraFiles = []*os.File{statusEnd} // descriptor 3
	// The process that downloads is a child, which gives the file the time that
	// continuing it takes.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second

	watched := make(chan struct{})
	go func() {
		defer close(watched)
		watchStatus(status, progress)
	}()
	// The signal comes when the thread that starts the process ends.
	runtime.LockOSThread()
	err = cmd.Run()
	runtime.UnlockOSThread()
	statusEnd.Close()
	status.Close()
	<-watched
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		err = fmt.Errorf("run %s: %w", filepath.Base(name), err)
	}
	return out.String(), errs.String(), err
}

// watchStatus reads apt's status lines, "dlstatus:NUMBER:PERCENT:TEXT".
func watchStatus(r io.Reader, progress func(fraction float64)) {
	for s := bufio.NewScanner(r); s.Scan(); {
		words := strings.SplitN(s.Text(), ":", 4)
		if len(words) < 4 || words[0] != "dlstatus" || progress == nil {
			continue
		}
		if percent, err := strconv.ParseFloat(words[2], 64); err == nil {
			progress(percent / 100)
		}
	}
}

// complaintsAbout picks what apt said about one suite, as "REASON; REASON".
func complaintsAbout(suite string, complaints []string) string {
	about := regexp.MustCompile(`(/dists/| )` + regexp.QuoteMeta(suite) + `(/| (In)?Release)`)
	var out []string
	for _, line := range complaints {
		if about.MatchString(line) {
			out = append(out, strings.TrimPrefix(strings.TrimPrefix(line, "E: "), "W: "))
		}
	}
	return strings.Join(out, "; ")
}

// reason is the first error among the lines that a program of apt wrote; what
// follows it is less precise.
func reason(text string) string {
	for line := range strings.Lines(text) {
		if line, ok := strings.CutPrefix(strings.TrimSpace(line), "E: "); ok {
			return line
		}
	}
	return cmp.Or(strings.TrimSpace(text), "it does not say why")
}
