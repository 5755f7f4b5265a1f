package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pmtulab/pmtulab/lab/scenario"
	"github.com/pmtulab/pmtulab/topology"
)

func graphCommand() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "graph [SCENARIO|FILE]",
		Short: "Draw the network of a scenario, or of a topology file",
		Long: `Graph draws a network on stdout: as text, as a Mermaid flowchart for Markdown,
or as SVG. FILE is a scenario or a topology.`,
		Example: `  pmtulab graph report
  pmtulab graph my-network.yaml --format svg > my-network.svg`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeScenario,
		RunE: func(c *cobra.Command, args []string) error {
			draw, ok := map[string]func(topology.Spec) string{
				"text":    func(s topology.Spec) string { return strings.Join(append(s.Draw(), ""), "\n") },
				"mermaid": topology.Spec.Mermaid,
				"svg":     topology.Spec.SVG,
			}[format]
			if !ok {
				return usage(fmt.Errorf("--format %s: must be text, mermaid or svg", format))
			}
			spec, err := loadTopology(first(args, "report"))
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(c.OutOrStdout(), draw(spec))
			return err //nolint:wrapcheck // writing to stdout speaks for itself
		},
	}
	formatFlag(c, &format,
		cobra.CompletionWithDesc("text", "for a terminal"), cobra.CompletionWithDesc("mermaid", "for Markdown"), cobra.CompletionWithDesc("svg", "for a browser"))
	return c
}

// loadTopology reads the network of a scenario, or one that stands by itself;
// every error is one of input.
func loadTopology(ref string) (topology.Spec, error) {
	file, data, err := scenario.Read(ref)
	if err != nil {
		return topology.Spec{}, usage(err)
	}
	var spec topology.Spec
	// A scenario has its network under a key, or shares that of another.
	if d := topology.Read(file, data); d.Has("topology") || d.Has("base") {
		var s scenario.Scenario
		s, err = scenario.Parse(file, data, nil)
		spec = s.Topology
	} else {
		spec, err = topology.Parse(file, data)
	}
	if err != nil {
		return spec, usage(err)
	}
	return spec, nil
}
