package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pmtulab/pmtulab/docs/schema"
	"github.com/pmtulab/pmtulab/topology"
)

func schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema NAME",
		Short: "Print the JSON Schema of files, and of what --format json prints",
		Long: `Schema prints a JSON Schema, draft 2020-12. An editor that has it completes the
keys of a file, explains them, and marks most mistakes as they are made. A YAML
language server has it from the first line of the file:

    # yaml-language-server: $schema=scenario.schema.json

NAME is topology or scenario, for files, or for output one of
` + strings.Join(schema.Names()[2:], ", ") + ".",
		Example:   `  pmtulab schema scenario > scenario.schema.json`,
		Args:      cobra.ExactArgs(1),
		ValidArgs: schema.Names(),
		RunE: func(c *cobra.Command, args []string) error {
			text, err := schema.Files.ReadFile(args[0] + ".json")
			if err != nil {
				return usage(fmt.Errorf("there is no schema %q; %s", args[0], topology.Allowed(args[0], schema.Names()...)))
			}
			_, err = c.OutOrStdout().Write(text)
			return err //nolint:wrapcheck // writing to stdout speaks for itself
		},
	}
}
