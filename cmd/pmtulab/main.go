// Command pmtulab is a laboratory for path-MTU trouble behind load balancers.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use:           "pmtulab",
		Short:         "A real-kernel laboratory for path-MTU trouble behind IPVS load balancers",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.AddCommand(runCommand(), scenariosCommand(), mitigationsCommand(), graphCommand(), schemaCommand(), vmCommand())
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.CompletionOptions.DisableDefaultCmd = true

	err := root.ExecuteContext(ctx)
	var exit *exitError
	switch {
	case err == nil:
		return record.ExitPass
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

// exitError ends the command with a code; err is nil when all has been said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return fmt.Sprintf("exit code %d: %v", e.code, e.err) }

func (e *exitError) Unwrap() error { return e.err }

// usage marks err as wrong usage or bad input.
func usage(err error) error { return &exitError{code: record.ExitUsage, err: err} }
