package scenario

import (
	"errors"
	"slices"
	"testing"

	"github.com/pmtulab/pmtulab/lab"
	"github.com/pmtulab/pmtulab/lab/record"
)

// Without trust in the clock nothing passes and nothing fails, and what was
// measured is shown all the same; but it does not hide that the lab failed.
func TestJudgeUnfitClock(t *testing.T) {
	unfit := record.Loss{Source: record.ClockLoss, Count: 1, Detail: "a short sleep ended 29.8 ms late"}
	for name, test := range map[string]struct {
		class  record.Class // expected of B, which stalls
		losses []record.Loss
		err    error
		want   record.Verdict
	}{
		"fit, met":         {record.PMTUStall, nil, nil, record.Pass},
		"fit, not met":     {record.Clean, nil, nil, record.Fail},
		"unfit, met":       {record.PMTUStall, []record.Loss{unfit}, nil, record.Inconclusive},
		"unfit, not met":   {record.Clean, []record.Loss{unfit}, nil, record.Inconclusive},
		"unfit, no lab":    {record.Clean, []record.Loss{unfit}, errors.New("request A: reset"), record.Error},
		"unfit, no kernel": {record.Clean, []record.Loss{unfit}, &lab.MissingError{}, record.Unsupported},
	} {
		t.Run(name, func(t *testing.T) {
			r := &run{scenario: Scenario{Expect: []Expect{{Request: "B", Class: test.class}}}, result: outcome()}
			r.result.Losses = test.losses
			r.judge(test.err)
			if r.result.Verdict != test.want {
				t.Errorf("verdict %s, want %s", r.result.Verdict, test.want)
			}
			if said := slices.Contains(r.result.Reasons, unfit.String()); said != (test.want == record.Inconclusive) {
				t.Errorf("reasons %q", r.result.Reasons)
			}
			if shown := len(r.result.Expectations); (shown == 1) != (test.err == nil) {
				t.Errorf("%d expectations are shown", shown)
			}
		})
	}
}
