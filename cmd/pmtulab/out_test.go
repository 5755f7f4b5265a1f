package main

import (
	"testing"

	"github.com/pmtulab/pmtulab/lab/report"
)

func TestStyle(t *testing.T) {
	for _, c := range []struct {
		columns int
		env     map[string]string
		want    report.Style
	}{
		{0, nil, report.Style{}},
		{80, nil, report.Style{Color: true, Width: 80}},
		{40, nil, report.Style{Color: true, Width: 80}},
		{93, nil, report.Style{Color: true, Width: 93}},
		{200, nil, report.Style{Color: true, Width: 120}},
		{80, map[string]string{"TERM": "dumb"}, report.Style{Width: 80}},
		{80, map[string]string{"NO_COLOR": "1"}, report.Style{Width: 80}},
		{80, map[string]string{"NO_COLOR": ""}, report.Style{Color: true, Width: 80}},
		{0, map[string]string{"CLICOLOR_FORCE": "1"}, report.Style{Color: true}},
		{0, map[string]string{"CLICOLOR_FORCE": "0"}, report.Style{}},
		{80, map[string]string{"CLICOLOR_FORCE": "1", "NO_COLOR": "1"}, report.Style{Width: 80}},
	} {
		if got := styleOf(c.columns, func(name string) string { return c.env[name] }); got != c.want {
			t.Errorf("%d columns, %v: %+v, want %+v", c.columns, c.env, got, c.want)
		}
	}
}
