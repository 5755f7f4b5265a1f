package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/pmtulab/pmtulab/lab/guest"
	"github.com/pmtulab/pmtulab/lab/kernel"
	"github.com/pmtulab/pmtulab/lab/record"
)

// Exit codes of vm that are not the program's own. Those of GNU timeout and
// the shell lie in the same range and mean alike things.
const (
	vmUsage          = 120
	vmUnsupported    = 121
	vmPanic          = 122
	vmOops           = 123
	vmHang           = 124
	vmLost           = 125
	vmInfrastructure = 126
)

var vmCodes = map[record.GuestOutcome]int{
	record.GuestPanic: vmPanic, record.GuestOops: vmOops,
	record.GuestHangBoot: vmHang, record.GuestHangRun: vmHang,
	record.GuestLost: vmLost, record.GuestInfrastructure: vmInfrastructure,
}

// The modules that a lab uses. Those that a kernel may lack are optional:
// what misses them says so.
var (
	labModules      = []string{"veth", "bridge", "ipip", "ip_vs", "ip_vs_rr"}
	optionalModules = []string{
		"ip_vs_wrr", "ip_vs_lc", "ip_vs_wlc", "ip_vs_sh", "ip_vs_dh", "ip_vs_mh", "ip_vs_sed", "ip_vs_nq",
		"inet_diag", "tcp_diag", "af_packet",
		"nf_tables", "nft_chain_nat", "nft_nat", "nft_redir", "nf_nat", "nf_conntrack",
		"iptable_nat", "xt_REDIRECT", "xt_owner", "xt_tcpudp",
	}
)

// redirectProgram is what a sidecar needs on kernels without NAT in nftables.
var redirectProgram = guest.Program{
	Path:    "iptables-legacy-restore",
	Plugins: []string{"/usr/lib/*/xtables/libxt_[Rost]*.so", "/usr/lib/*/xtables/libipt_*.so"},
}

func vmCommand() *cobra.Command {
	var (
		memory      int
		timeout     time.Duration
		bootTimeout time.Duration
		console     bool
		modules     []string
		k           kernelFlags
		out         string
	)
	c := &cobra.Command{
		Use:   "vm -- COMMAND [ARGS]",
		Short: "Run a program as root in a guest kernel",
		Long: `Run a program of this machine as root in a fresh guest that has IPVS, IPIP, veth
and netfilter loaded: User-Mode Linux, or with --kernel any kernel, in QEMU. The
program finds itself under its own path, with its shared libraries, its working
directory with testdata, and this environment; the guest shares no file system
and no network with the host.

What the program leaves in the directory $OUT comes back to --out. What a test
binary writes to the paths in its flags -test.coverprofile, -test.gocoverdir,
-test.cpuprofile and their like comes back to those paths. Nothing comes back
from a guest that panics or hangs.

The exit code is the program's own (128+N for signal N), or:

    120 wrong usage          121 no guest kernel here    122 kernel panic
    123 kernel oops or WARN  124 hang                    125 guest lost
    126 guest could not be started`,
		Example: `  pmtulab vm -- ./program -v
  pmtulab vm --out results -- sh -c 'read x </proc/uptime; echo $x >$OUT/uptime'
  pmtulab vm --kernel 6.12 -- uname -r
  pmtulab vm --kernel arch/x86/boot/bzImage,modules=mods -- uname -r
  go test -tags kernel -exec "pmtulab vm --" ./e2e`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &exitError{vmUsage, errors.New("vm: no command; write: pmtulab vm -- COMMAND ARGS")}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			job := guest.Job{
				Args: args, Env: os.Environ(),
				Modules: modules, OptionalModules: optionalModules,
				MemoryMiB: memory, BootTimeout: bootTimeout, RunTimeout: timeout,
				Stdout: os.Stdout, Stderr: os.Stderr,
			}
			if !c.Flags().Changed("module") {
				job.Modules = labModules
			} else {
				job.OptionalModules = nil
			}
			if console {
				job.Console = os.Stderr
			}
			var features []kernel.Feature
			if !c.Flags().Changed("module") {
				features = kernel.LabFeatures()
			}
			booted, err := k.find(c.Context(), newProgress(1), features...)
			if err != nil {
				return vmError(err)
			}
			if out != "" {
				job.Outputs = append(job.Outputs, guest.Output{Path: outDir, Host: out, Dir: true})
				job.Env = append(job.Env, "OUT="+outDir)
			}
			return vm(c.Context(), booted, job)
		},
	}
	flags := c.Flags()
	flags.SetInterspersed(false)
	flags.IntVar(&memory, "memory", 512, "the guest's memory in `MiB`")
	flags.DurationVar(&timeout, "timeout", 0, "end the program after this time; 0 is never")
	flags.DurationVar(&bootTimeout, "boot-timeout", 0, "end a guest that has not started the program by then;\n0 is 10s, or 30s in QEMU")
	flags.BoolVar(&console, "console", false, "show the kernel log on stderr")
	flags.StringSliceVar(&modules, "module", nil, "load these kernel `MODULES` instead of what a lab needs; may be empty")
	k.add(c, "uml")
	flags.StringVar(&out, "out", "", "write what the program leaves in $OUT to this `DIR`ectory")
	return c
}

// vmError gives an error about the kernel the exit code that vm has for it.
func vmError(err error) error {
	code := vmInfrastructure
	var exit *exitError
	if errors.As(err, &exit) {
		err = exit.err
		switch exit.code {
		case record.ExitUsage:
			code = vmUsage
		case record.ExitUnsupported:
			code = vmUnsupported
		}
	}
	return &exitError{code, fmt.Errorf("vm: %w", err)}
}

// outDir is $OUT in a guest.
const outDir = "/out"

// vm runs a job and turns its end into the exit code of the command.
func vm(ctx context.Context, kernel guest.Kernel, job guest.Job) (err error) {
	if job.Dir, err = os.Getwd(); err != nil {
		return &exitError{vmInfrastructure, fmt.Errorf("find the working directory: %w", err)}
	}
	// go test runs a test in the directory of its package, where testdata is.
	testdata := filepath.Join(job.Dir, "testdata")
	if _, err := os.Stat(testdata); err == nil {
		job.Files = append(job.Files, guest.File{Path: testdata, Source: testdata})
	} else if !errors.Is(err, fs.ErrNotExist) {
		return &exitError{vmInfrastructure, fmt.Errorf("pack testdata: %w", err)}
	}
	job.Programs = append(job.Programs, redirectPrograms(kernel)...)
	job.Outputs = append(job.Outputs, testOutputs(job.Args, job.Dir)...)
	result, err := guest.Run(ctx, kernel, job)
	for _, skipped := range result.Skipped {
		fmt.Fprintln(os.Stderr, "pmtulab: vm: only files and directories come back, not", skipped)
	}
	switch {
	case errors.Is(err, guest.ErrNoQEMU):
		return &exitError{vmUnsupported, fmt.Errorf("vm: %w", err)}
	case err != nil:
		return &exitError{vmInfrastructure, fmt.Errorf("vm: %w", err)}
	case result.Outcome != record.GuestFinished:
		return &exitError{vmCodes[result.Outcome], fmt.Errorf("vm: guest outcome %q (%s): %s; %s",
			result.Outcome, result.Accelerator, result.Detail, lastWords(result))}
	case result.ExitCode != 0:
		return &exitError{code: result.ExitCode}
	}
	return nil
}
