// Which suites of the Debian archive hold kernels, and where the archive is.

package kernel

import (
	"bufio"
	"context"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
)

// suites are the suites that hold kernels of the series in use, oldest first.
// The security suites have a part of the mirror to themselves. Plain bullseye
// is there for its User-Mode Linux.
func suites() []string {
	return []string{
		"bullseye", "bullseye-security",
		"bookworm", "bookworm-security", "bookworm-backports",
		"trixie", "trixie-security", "trixie-backports",
		"sid",
	}
}

func isSecurity(suite string) bool { return strings.HasSuffix(suite, "-security") }

// isDebian tells whether a repository with this suite is one of Debian.
func isDebian(suite string) bool {
	release, _, _ := strings.Cut(suite, "-")
	return slices.Contains(suites(), release) ||
		slices.Contains([]string{"stable", "oldstable", "oldoldstable", "testing", "unstable", "forky"}, release)
}

// mirror is where the archive is.
type mirror struct {
	// main has the suites of the distribution, security those of the security
	// team; both are URIs without a final slash, in a form that apt knows.
	main, security string
}

func (m mirror) of(suite string) string {
	if isSecurity(suite) {
		return m.security
	}
	return m.main
}

// newMirror is the mirror at a URI that the user gave: that of the
// distribution. The security suites are looked for beside it.
func newMirror(uri string) (mirror, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return mirror{}, input("mirror %s: %w", uri, err)
	}
	if !slices.Contains([]string{"http", "https", "file"}, u.Scheme) || strings.ContainsAny(uri, " \t\n[]") {
		return mirror{}, input("mirror %s: must be an address such as http://HOST/debian", uri)
	}
	main := strings.TrimRight(uri, "/")
	return mirror{main: main, security: main + "-security"}, nil
}

// systemMirror is the mirror that this system's apt uses.
func (a apt) systemMirror(ctx context.Context) (mirror, error) {
	// apt reads its own configuration, in all its forms, and only prints.
	out, err := a.systemCommand(ctx, "apt-get", "update", "--print-uris")
	if err != nil {
		return mirror{}, fmt.Errorf("find the mirror that this system uses: %w", err)
	}
	m := parseURIs(out)
	if m.main == "" {
		return mirror{}, fmt.Errorf("find the mirror that this system uses: its apt has no source of Debian; name one with --mirror URL")
	}
	return m, nil
}

// parseURIs finds the archive in what apt-get --print-uris prints: a quoted
// URI and more on each line. The first source of each kind counts.
func parseURIs(out string) mirror {
	release := regexp.MustCompile(`^'([^']+?)/+dists/([^'/]+)(?:/updates)?/InRelease'`)
	var m mirror
	for s := bufio.NewScanner(strings.NewReader(out)); s.Scan(); {
		found := release.FindStringSubmatch(s.Text())
		switch {
		case found == nil || !isDebian(found[2]):
		case isSecurity(found[2]) && m.security == "":
			m.security = found[1]
		case !isSecurity(found[2]) && m.main == "":
			m.main = found[1]
		}
	}
	if m.main != "" && m.security == "" {
		m.security = m.main + "-security"
	}
	return m
}

// sourceList is what apt reads in place of the system's sources: indexes of
// packages alone, of one architecture, signed by the keys of Debian.
func sourceList(m mirror) string {
	options := "arch=" + arch + " target=Packages"
	if keyring := debianKeyring(); keyring != "" {
		options += " signed-by=" + keyring
	}
	var b strings.Builder
	for _, suite := range suites() {
		fmt.Fprintf(&b, "deb [%s] %s %s main\n", options, m.of(suite), suite)
	}
	return b.String()
}

// debianKeyring is where the package debian-archive-keyring puts the keys of
// the archive; without it, apt trusts what the system trusts.
func debianKeyring() string {
	for _, ext := range []string{"pgp", "gpg"} {
		file := "/usr/share/keyrings/debian-archive-keyring." + ext
		if _, err := os.Stat(file); err == nil {
			return file
		}
	}
	return ""
}
