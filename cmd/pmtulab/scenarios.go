package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pmtulab/pmtulab/lab/scenario"
)

func scenariosCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "scenarios", Short: "List and show the built-in scenarios",
		Example: `  pmtulab scenarios ls
  pmtulab scenarios show report > my-scenario.yaml`,
	}
	c.AddCommand(
		&cobra.Command{
			Use: "ls", Short: "List the built-in scenarios", Args: cobra.NoArgs, Example: "  pmtulab scenarios ls",
			RunE: func(c *cobra.Command, _ []string) error {
				for _, name := range scenario.Names() {
					s, err := load(name, nil)
					if err != nil {
						return err
					}
					fmt.Fprintf(c.OutOrStdout(), "%-21s %s\n", name, s.Summary)
				}
				return nil
			},
		},
		&cobra.Command{
			Use: "show SCENARIO|FILE", Short: "Print a scenario's YAML, a start for one of your own",
			Example: "  pmtulab scenarios show report > my-scenario.yaml",
			Args:    cobra.ExactArgs(1), ValidArgsFunction: completeScenario,
			RunE: func(c *cobra.Command, args []string) error {
				_, data, err := scenario.Read(args[0])
				if err != nil {
					return usage(err)
				}
				_, err = c.OutOrStdout().Write(data)
				return err //nolint:wrapcheck // writing to stdout speaks for itself
			},
		},
	)
	return c
}

func mitigationsCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "mitigations", Short: "List what could prevent the trouble, for run --with",
		Example: `  pmtulab mitigations ls
  pmtulab run --with server-advmss`,
	}
	c.AddCommand(&cobra.Command{
		Use: "ls [SCENARIO|FILE]", Short: "List a scenario's mitigations", Args: cobra.MaximumNArgs(1),
		Example:           "  pmtulab mitigations ls report",
		ValidArgsFunction: completeScenario,
		RunE: func(c *cobra.Command, args []string) error {
			s, err := load(first(args, "report"), nil)
			if err != nil {
				return err
			}
			for _, m := range s.Mitigations {
				fmt.Fprintf(c.OutOrStdout(), "%-18s %s\n%-18s %s\n", m.Name, m.Summary, "", m.Command)
			}
			return nil
		},
	})
	return c
}

// load reads and checks a scenario; every error is one of input.
func load(ref string, set map[string]string) (scenario.Scenario, error) {
	file, data, err := scenario.Read(ref)
	if err != nil {
		return scenario.Scenario{}, usage(err)
	}
	s, err := scenario.Parse(file, data, set)
	if err != nil {
		return scenario.Scenario{}, usage(err)
	}
	return s, nil
}

func first(args []string, otherwise string) string {
	if len(args) > 0 {
		return args[0]
	}
	return otherwise
}
