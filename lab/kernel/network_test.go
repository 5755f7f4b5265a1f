//go:build network

// These read a real mirror through the apt of this system:
//
//	go test -tags network ./lab/kernel

package kernel

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pmtulab/pmtulab/lab/wait"
)

// Every generation of packages comes whole out of the archive, and again
// without it.
func TestArchive(t *testing.T) {
	cache := newCache(t)
	begun := time.Now()
	catalogue, err := cache.Catalogue(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("lists of %d kernels in %.1f s", len(catalogue.Kernels), time.Since(begun).Seconds())
	for _, suite := range catalogue.Suites {
		if suite.Problem != "" {
			t.Log(suite)
		}
	}
	for _, ref := range []string{"5.10", "6.1", "6.12", "6.18", "7", "uml/5.10", "uml/6.1", "uml/6.12", "uml/7"} {
		t.Run(ref, func(t *testing.T) {
			begun := time.Now()
			k, err := cache.Pull(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			cold := time.Since(begun)
			if number := strings.TrimPrefix(ref, "uml/"); !strings.HasPrefix(k.Release, number+".") || k.UML != strings.HasPrefix(ref, "uml") {
				t.Errorf("kernel is %+v", k)
			}
			if k.ELF == "" && !k.UML {
				t.Errorf("it has no ELF image: %s", k.NoELF)
			}
			if err := errors.Join(checkModules(k.Modules, k.Release), k.Check(LabFeatures()...)); err != nil || k.Config == "" {
				t.Error(err)
			}
			offline := Cache{Dir: cache.Dir, Offline: true}
			begun = time.Now()
			if again, err := offline.Resolve(t.Context(), ref); err != nil || again != k {
				t.Errorf("offline: %+v, %v", again, err)
			}
			t.Logf("%s, %s: cold %.1f s, warm %.0f ms, %d MB", k.Version, k.Source, cold.Seconds(), float64(time.Since(begun).Microseconds())/1000, diskUse(filepath.Dir(k.Image))/1e6)
		})
	}
}

// Without a mirror, the error says so, and what is cached serves.
func TestUnreachableMirror(t *testing.T) {
	cache := newCache(t)
	if _, err := cache.Resolve(t.Context(), debianPackage(t, release, "6.1.192-2").write(t, t.TempDir())); err != nil {
		t.Fatal(err)
	}
	cache.Mirror = "http://127.0.0.1:1/debian"
	_, err := cache.Resolve(t.Context(), "6.12")
	if err == nil || !strings.Contains(err.Error(), "Connection refused") || !strings.Contains(err.Error(), "cached are: 6.1.192") || errors.Is(err, ErrInput) {
		t.Errorf("error is %v", err)
	}
	if k, err := cache.Resolve(t.Context(), "6.1"); err != nil || k.Release != release {
		t.Error(err)
	}
}

// A mirror whose lists nobody signed is refused.
func TestUnsignedMirror(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "debian")
	for _, suite := range suites() {
		writeFile(t, filepath.Join(dir, "dists", suite, "Release"), "Suite: "+suite+"\nSHA256:\n")
		writeFile(t, filepath.Join(dir, "dists", suite, "main/binary-amd64/Packages"), someIndex)
	}
	cache := newCache(t)
	cache.Mirror = "file:" + dir
	if _, err := cache.Resolve(t.Context(), "6.12"); err == nil || !strings.Contains(err.Error(), "is not signed") {
		t.Errorf("error is %v", err)
	}
}

// A download that was interrupted goes on where it was; whatever else lies
// there in its place is no obstacle, and what was damaged on its way leaves
// nothing.
func TestDownload(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<19) // 8 MiB
	sum := sha256.Sum256(content)
	var (
		slow, damaged atomic.Bool
		resumed       atomic.Int32
	)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := &servedWriter{ResponseWriter: w, ctx: r.Context(), slow: slow.Load(), damaged: damaged.Load()}
		http.ServeContent(out, r, "a.deb", time.Unix(1e9, 0), bytes.NewReader(content))
		if out.status == http.StatusPartialContent {
			resumed.Add(1)
		}
	}))
	defer server.Close()
	t.Setenv("no_proxy", "127.0.0.1")
	cache := newCache(t)
	s, err := cache.open()
	if err == nil {
		err = s.apt.prepare(mirror{main: server.URL, security: server.URL})
	}
	if err != nil {
		t.Fatal(err)
	}
	p := Package{URI: server.URL + "/a.deb", Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:])}
	place := s.at("downloads", p.SHA256+".deb")
	download := func(want int32) {
		t.Helper()
		resumed.Store(0)
		file, err := s.download(t.Context(), p)
		if err != nil || file != place || readString(t, file) != string(content) || resumed.Load() != want {
			t.Errorf("%v, %d times resumed, want %d", err, resumed.Load(), want)
		}
		if err := os.Remove(place); err != nil {
			t.Fatal(err)
		}
	}
	download(0)

	damaged.Store(true)
	if _, err := s.download(t.Context(), p); err == nil || !strings.Contains(err.Error(), "Hash Sum mismatch") || exists(place) {
		t.Errorf("damaged: %v", err)
	}
	damaged.Store(false)

	slow.Store(true)
	interrupted := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	s.Progress = func(p Progress) {
		if p.Fraction > 0.3 {
			cancel(interrupted)
		}
	}
	if _, err := s.download(ctx, p); !errors.Is(err, interrupted) {
		t.Errorf("interrupted: %v", err)
	}
	slow.Store(false)
	download(1)

	for _, there := range []string{"garbage", string(content[:1<<20]), string(content) + "more"} {
		writeFile(t, place, there)
		download(0)
	}
}

// servedWriter serves at about 3 MB/s when slow, and changes every byte when
// damaged.
type servedWriter struct {
	http.ResponseWriter
	ctx           context.Context
	slow, damaged bool
	status        int
}

func (s *servedWriter) WriteHeader(status int) {
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}

func (s *servedWriter) Write(b []byte) (int, error) {
	if s.damaged {
		b = make([]byte, len(b))
	}
	if s.slow {
		if err := wait.For(s.ctx, 10*time.Millisecond); err != nil {
			return 0, err
		}
	}
	return s.ResponseWriter.Write(b)
}
