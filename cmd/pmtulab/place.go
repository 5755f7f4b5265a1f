package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pmtulab/pmtulab/lab"
	"github.com/pmtulab/pmtulab/lab/guest"
	"github.com/pmtulab/pmtulab/lab/kernel"
	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/scenario"
)

// place is somewhere that a run can happen.
type place struct {
	// name is what --on takes; title is for people.
	name, title string
	// kernel is the release of the kernel there, empty when there is none.
	kernel func() string
	// needs lists what a run of a scenario needs there.
	needs func(scenario.Scenario) []lab.Need
	// run makes the runs of an order.
	run func(context.Context, order) outcome
}

// places are where runs can happen; --on auto takes the first that can.
func places() []place {
	return []place{hostPlace(), guestPlace(guest.UML, installedUML), guestPlace(guest.QEMU, newestCached)}
}

// onValues are the values of --on.
func onValues() []cobra.Completion {
	var out []cobra.Completion
	for _, p := range places() {
		out = append(out, cobra.CompletionWithDesc(p.name, p.title))
	}
	return append(out, cobra.CompletionWithDesc("auto", "the first of these that can run the scenario"))
}

// look is what was found at a place.
type look struct {
	place
	capabilities []lab.Capability
	took         time.Duration
}

func (p place) look(s scenario.Scenario) look {
	begun := time.Now()
	found := lab.Try(p.needs(s)...)
	return look{p, found, time.Since(begun)}
}

// missing is what lab.Missing makes of it.
func (l look) missing() error {
	return lab.Missing(l.capabilities) //nolint:wrapcheck // names each capability
}

// auto is the first of looks where nothing is missing; ok is false when there is
// none. The reason says what keeps the run from the places before it.
func auto(looks []look) (chosen place, reason string, ok bool) {
	var reasons []string
	for _, l := range looks {
		missing := l.missing()
		if missing == nil {
			if len(reasons) == 0 {
				reasons = []string{l.title + " has what the lab needs"}
			}
			return l.place, strings.Join(reasons, "; "), true
		}
		reasons = append(reasons, l.title+" has no "+strings.Join(lacking(missing), ", no "))
	}
	return place{}, strings.Join(reasons, "; "), false
}

// choose decides where to run.
func (f runFlags) choose(ctx context.Context, s scenario.Scenario, progress *progress) (place, string, error) {
	if !slices.Contains(words(onValues()), f.on) {
		return place{}, "", usage(fmt.Errorf("--on %s: must be %s", f.on, either(words(onValues()))))
	}
	if f.kernel.ref != "" {
		return f.kernelPlace(ctx, progress)
	}
	var looks []look
	for _, p := range places() {
		switch f.on {
		case p.name:
			return p, "--on " + f.on + " says so", nil
		case "auto":
			looks = append(looks, p.look(s))
			if chosen, reason, ok := auto(looks); ok {
				return chosen, reason, nil
			}
		}
	}
	err := errors.New("nowhere to run (see: pmtulab doctor)")
	for _, l := range looks {
		err = fmt.Errorf("%w\n%s: %w", err, l.title, l.missing())
	}
	return place{}, "", &exitError{record.ExitUnsupported, err}
}

// kernelPlace is the place of the kernel that --kernel names.
func (f runFlags) kernelPlace(ctx context.Context, progress *progress) (place, string, error) {
	p := hostPlace()
	if f.kernel.ref != p.name {
		k, err := f.kernel.find(ctx, progress, kernel.LabFeatures()...)
		if err != nil {
			return p, "", err
		}
		p = guestPlace(k.Machine, func() (guest.Kernel, error) { return k, nil })
	}
	if f.on != "auto" && f.on != p.name {
		return p, "", usage(fmt.Errorf("--kernel %s runs on %s, not on %s; leave --on out", f.kernel.ref, p.name, f.on))
	}
	return p, "--kernel " + f.kernel.ref + " says so", nil
}

// either is "a, b or c".
func either(names []string) string {
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// lacking lists the capabilities that err, a tree of errors, says are missing;
// what is no *lab.MissingError is told in full.
func lacking(err error) []string {
	var missing *lab.MissingError
	switch e := err.(type) { //nolint:errorlint // each node of the tree is looked at
	case interface{ Unwrap() []error }:
		var out []string
		for _, err := range e.Unwrap() {
			out = append(out, lacking(err)...)
		}
		return out
	default:
		if errors.As(err, &missing) {
			return []string{strings.TrimPrefix(strings.TrimPrefix(missing.Capability, "the "), "a ")}
		}
		return []string{err.Error()}
	}
}
