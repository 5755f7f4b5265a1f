//go:build linux

// The redirect with ip_tables, for kernels without nf_tables NAT. The ruleset
// is handed to iptables-legacy-restore in one piece: each run of an iptables
// program costs about 0.13 s in User-Mode Linux.

package sidecar

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// iptablesChain is the chain that holds the redirect; the chain OUTPUT of the
// nat table jumps to it.
const iptablesChain = "PMTULAB_SIDECAR"

// iptablesInstall is the ruleset of the redirect. A restore is one transaction.
// -N, in line 2, fails where the chain exists, as ":CHAIN" would not.
func (r *redirect) iptablesInstall() string {
	return fmt.Sprintf(`*nat
-N %[1]s
-A %[1]s -o lo -j RETURN
-A %[1]s -m owner --uid-owner %[2]d -j RETURN
-A %[1]s -d 127.0.0.0/8 -j RETURN
-A %[1]s -p tcp -j REDIRECT --to-ports %[3]d
-A OUTPUT -p tcp -j %[1]s
COMMIT
`, iptablesChain, r.uid, r.port)
}

func iptablesRemove() string {
	return fmt.Sprintf(`*nat
-D OUTPUT -p tcp -j %[1]s
-F %[1]s
-X %[1]s
COMMIT
`, iptablesChain)
}

// iptablesModules are those that the program or the kernel loads for the ruleset.
func iptablesModules() []string {
	return []string{"ip_tables", "iptable_nat", "xt_REDIRECT", "xt_owner", "xt_tcpudp"}
}

// iptablesRestore is the program that loads a ruleset.
const iptablesRestore = "iptables-legacy-restore"

// findRestore looks on PATH and in the system directories, which are not on
// the PATH of every user.
func findRestore() (string, error) {
	for _, name := range []string{iptablesRestore, "/usr/sbin/" + iptablesRestore, "/sbin/" + iptablesRestore} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: %s: %w on PATH, in /usr/sbin and /sbin (install the Debian package iptables)",
		ErrNoRedirect, iptablesRestore, exec.ErrNotFound)
}

// restore runs iptables-legacy-restore in ns once, over ruleset. Rules that
// are not named in it stay as they are.
func restore(ctx context.Context, ns Namespace, ruleset string) error {
	path, err := findRestore()
	if err != nil {
		return err
	}
	// The lock is the host's; another lab may hold it for a moment.
	cmd := exec.CommandContext(ctx, path, "--noflush", "--wait", "10")
	cmd.Stdin = strings.NewReader(ruleset)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := ns.Start(cmd); err != nil {
		return fmt.Errorf("start %s: %w", path, err)
	}
	if err := cmd.Wait(); err != nil {
		text := strings.TrimSpace(out.String())
		if strings.HasSuffix(text, "line 2 failed") && strings.Contains(ruleset, "\n-N ") {
			return fmt.Errorf("chain %s: %w", iptablesChain, ErrRedirectExists)
		}
		if noTable(text) {
			return fmt.Errorf("%w: %s: the kernel has no ip_tables NAT: %s", ErrNoRedirect, path, text)
		}
		if ctx.Err() != nil {
			err = errors.Join(err, context.Cause(ctx))
		}
		return fmt.Errorf("%s: %w: %s", path, err, text)
	}
	return nil
}

// noTable tells from what iptables says that the kernel lacks the table. Its
// words differ: "can't initialize iptables table `nat'" with modules that it
// looked for, "unable to initialize table 'nat'" without.
func noTable(text string) bool {
	return strings.Contains(text, "can't initialize iptables table") || strings.Contains(text, "unable to initialize table")
}
