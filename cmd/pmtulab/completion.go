package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pmtulab/pmtulab/lab/scenario"
)

func completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a script that completes command lines in a shell",
		Long: `Completion prints a script for a shell. With it the TAB key completes commands,
flags, scenarios and their settings and mitigations, and says what each is. In
bash it takes the package bash-completion.`,
		Example: `  source <(pmtulab completion bash)  # in ~/.bashrc
  source <(pmtulab completion zsh)   # in ~/.zshrc, after compinit
  pmtulab completion fish > ~/.config/fish/completions/pmtulab.fish`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(c *cobra.Command, args []string) error {
			out, root := c.OutOrStdout(), c.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			default:
				return root.GenFishCompletion(out, true)
			}
		},
	}
}

// formatFlag adds --format, whose values are given with what each is: the first
// is the default.
func formatFlag(c *cobra.Command, format *string, values ...cobra.Completion) {
	c.Flags().StringVar(format, "format", word(values[0]), "`FORMAT` of what goes to stdout: "+either(words(values)))
	complete(c, "format", fixed(values...))
}

// textOrJSON are the values of most --format flags.
func textOrJSON() []cobra.Completion {
	return []cobra.Completion{
		cobra.CompletionWithDesc("text", "for people"),
		cobra.CompletionWithDesc("json", "for programs (see: pmtulab schema)"),
	}
}

// checkFormat checks the value of --format.
func checkFormat(format string, values ...cobra.Completion) error {
	for _, v := range words(values) {
		if v == format {
			return nil
		}
	}
	return usage(fmt.Errorf("--format %s: must be %s", format, either(words(values))))
}

// word is a completion without its description.
func word(c cobra.Completion) string {
	text, _, _ := strings.Cut(c, "\t")
	return text
}

func words(list []cobra.Completion) []string {
	var out []string
	for _, c := range list {
		out = append(out, word(c))
	}
	return out
}

// complete makes f complete the values of a flag of c.
func complete(c *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := c.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err) // c has no such flag, or completes it already
	}
}

// fixed completes values that are always the same.
func fixed(values ...cobra.Completion) cobra.CompletionFunc {
	return cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)
}

// completeScenario completes the first argument: a scenario, or a file.
func completeScenario(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []cobra.Completion
	for _, name := range scenario.Names() {
		if s, err := load(name, nil); err == nil {
			out = append(out, cobra.CompletionWithDesc(name, s.Summary))
		}
	}
	return out, cobra.ShellCompDirectiveDefault
}

// ofScenario completes with something that the scenario on the command line has.
func ofScenario(list func(scenario.Scenario) []cobra.Completion, directive cobra.ShellCompDirective) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		s, err := load(first(args, "report"), nil)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return list(s), cobra.ShellCompDirectiveNoFileComp | directive
	}
}

// settingKeys are the settings, each up to its value, with what it is.
func settingKeys(s scenario.Scenario) []cobra.Completion {
	var out []cobra.Completion
	for _, x := range s.Settings {
		out = append(out, cobra.CompletionWithDesc(x.Name+"=", fmt.Sprintf("%s, %d to %d, default %d", x.Help, x.Min, x.Max, x.Default)))
	}
	return out
}

func mitigationNames(s scenario.Scenario) []cobra.Completion {
	var out []cobra.Completion
	for _, m := range s.Mitigations {
		out = append(out, cobra.CompletionWithDesc(m.Name, m.Summary))
	}
	return out
}
