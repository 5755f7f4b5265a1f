// Command pmtulab is a laboratory for path-MTU trouble behind load balancers.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/pmtulab/pmtulab/lab"
	"github.com/pmtulab/pmtulab/lab/guest"
	"github.com/pmtulab/pmtulab/lab/record"
)

func main() {
	lab.Main(guest.Roles()...)
	os.Exit(command(os.Args[1:], os.Stdout, os.Stderr))
}

// command runs one command line and returns the exit code of the process.
func command(args []string, stdout, stderr io.Writer) int {
	ctx, stop := interruptible(context.Background())
	defer stop()
	root := rootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)

	err := root.ExecuteContext(ctx)
	var exit *exitError
	var interrupted *interruptError
	switch {
	case err == nil:
		return record.ExitPass
	case errors.As(err, &interrupted):
		fmt.Fprintln(stderr, "pmtulab:", interrupted)
		return 128 + int(interrupted.signal)
	case errors.As(err, &exit):
		if exit.err != nil {
			fmt.Fprintln(stderr, "pmtulab:", exit.err)
		}
		return exit.code
	default: // cobra's own errors are about usage
		fmt.Fprintln(stderr, "pmtulab:", err)
		fmt.Fprintln(stderr, "pmtulab: see pmtulab --help")
		return record.ExitUsage
	}
}

// rootCommand is pmtulab with all its commands.
func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "pmtulab",
		Short: "A real-kernel laboratory for path-MTU trouble behind IPVS load balancers",
		Example: `  pmtulab run
  pmtulab doctor
  pmtulab run report --with server-advmss`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.AddCommand(runCommand(), matrixCommand(), reportCommand(), compareCommand(), doctorCommand(), watchCommand(), scenariosCommand(), mitigationsCommand(), graphCommand(), kernelsCommand(), schemaCommand(), vmCommand(), completionCommand())
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages", ".FlagUsagesWrapped 80"))
	root.CompletionOptions.DisableDefaultCmd = true // there is one of our own
	return root
}

// interruptible is a context that ends with the first SIGINT or SIGTERM, with an
// *interruptError as its cause. The second has its usual effect.
func interruptible(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		select {
		case s := <-signals:
			cancel(&interruptError{s.(syscall.Signal)})
		case <-ctx.Done():
		}
		signal.Stop(signals)
	}()
	return ctx, func() { cancel(nil) }
}

// interruptError ends the command with 128 and the number of the signal, as a
// shell would tell it.
type interruptError struct{ signal syscall.Signal }

func (e *interruptError) Error() string { return "interrupted by " + unix.SignalName(e.signal) }

// exitError ends the command with a code; err is nil when all has been said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return fmt.Sprintf("exit code %d: %v", e.code, e.err) }

func (e *exitError) Unwrap() error { return e.err }

// usage marks err as wrong usage or bad input.
func usage(err error) error { return &exitError{code: record.ExitUsage, err: err} }
