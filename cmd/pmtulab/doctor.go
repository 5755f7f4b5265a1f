package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/pmtulab/pmtulab/lab"
	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/report"
)

func doctorCommand() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "doctor [SCENARIO|FILE]",
		Short: "Say what this machine can and cannot run, and what would help",
		Long: `Doctor looks at each place where a run can happen: which capabilities it needs
there, which are there, and what to do about those that are missing. Each is
found out by use, in a network namespace of its own; nothing is changed, and the
kernel is not made to load a module.

    ✓  it was used
    ✗  it is missing; → says what to do
    ?  it was not tried: the kernel loads a module for it when a run needs it,
       or it needs something else that is missing

Exit codes: 0 something can run it, 2 wrong usage or input, 3 nothing can.`,
		Example: `  pmtulab doctor
  pmtulab doctor my-scenario.yaml
  pmtulab doctor --format json`,
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: completeScenario,
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkFormat(format, textOrJSON()...); err != nil {
				return err
			}
			s, err := load(first(args, "report"), nil)
			if err != nil {
				return err
			}
			survey := record.Survey{Schema: record.SurveySchema, Scenario: s.Name}
			var looks []look
			for _, p := range places() {
				l := p.look(s)
				looks = append(looks, l)
				survey.Places = append(survey.Places, l.record())
			}
			chosen, reason, ok := auto(looks)
			survey.Auto, survey.Reason = chosen.name, reason
			if format == "json" {
				err = report.JSON(c.OutOrStdout(), survey)
			} else {
				err = report.Survey(c.OutOrStdout(), survey, style())
			}
			switch {
			case err != nil:
				return &exitError{record.ExitError, err}
			case !ok:
				return &exitError{code: record.ExitUnsupported}
			}
			return nil
		},
	}
	formatFlag(c, &format, textOrJSON()...)
	return c
}

// record is l as data.
func (l look) record() record.Place {
	out := record.Place{Name: l.name, Kernel: l.kernel(), Usable: l.missing() == nil, Took: record.Millis(l.took)}
	for _, c := range l.capabilities {
		found := record.Capability{Name: c.Name, What: c.What, State: record.CapabilityThere, Detail: c.Found}
		var missing *lab.MissingError
		var untried *lab.UntriedError
		switch {
		case errors.As(c.Err, &missing):
			found.State, found.Remedy = record.CapabilityMissing, missing.Remedy
			if missing.Err != nil {
				found.Detail = missing.Err.Error()
			}
		case errors.As(c.Err, &untried):
			found.State, found.Detail = record.CapabilityUntried, untried.Why
		}
		out.Capabilities = append(out.Capabilities, found)
	}
	return out
}
