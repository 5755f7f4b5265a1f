//go:build linux && kernel

package watch_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/pmtulab/pmtulab/lab"
	"github.com/pmtulab/pmtulab/lab/evidence"
	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/scenario"
	"github.com/pmtulab/pmtulab/lab/watch"
)

func TestMain(m *testing.M) {
	lab.Main()
	m.Run()
}

// Request B of the report, caught live by watching the client's namespace, and
// nothing on which it depends: the exception, the connection that does not go
// by it, the stall, its end, and the ICMP that the client sent to itself.
func TestReport(t *testing.T) {
	file, data, err := scenario.Read("report")
	if err != nil {
		t.Fatal(err)
	}
	s, err := scenario.Parse(file, data, nil)
	if err != nil {
		t.Fatal(err)
	}
	lab.Require(t, lab.Missing(lab.Try(s.Needs()...)))
	// Between A and B there is time to see what A has left.
	s.Steps = append(s.Steps[:4:4], scenario.Step{Idle: 1200 * time.Millisecond}, s.Steps[4], scenario.Step{Idle: 1200 * time.Millisecond})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var found []record.Sighting
	var watching sync.WaitGroup
	r := scenario.Run(t.Context(), s, scenario.Options{Observed: func(l *lab.Lab) error {
		return l.Node("client").Do(func() error {
			m, err := evidence.OpenMachine()
			if err != nil {
				return err
			}
			watching.Go(func() {
				defer m.Close()
				w := watch.New(m)
				for tick := time.Tick(20 * time.Millisecond); ctx.Err() == nil; <-tick {
					more, err := w.Look(time.Now())
					if err != nil {
						t.Error(err)
						return
					}
					found = append(found, more...)
				}
			})
			return errors.Join(m.Unseen...)
		})
	}})
	stop()
	watching.Wait()
	if r.Verdict == record.Error || len(r.Requests) != 2 {
		t.Fatalf("%s: %v", r.Verdict, r.Reasons)
	}
	b := r.Requests[1].Connection.Wire()
	stalls, stale, own := 0, 0, int64(0)
	for _, s := range found {
		t.Logf("%s ended %v %v %v %+v stale %d", s.Kind, s.Ended, s.Socket, s.Exception, s.ICMP, s.Stale)
		if s.ICMP != nil {
			own += s.ICMP.SelfMade
		}
		local, _ := s.Endpoints()
		switch {
		case s.Kind == record.SightingStaleRoute && !s.Ended && local == b.Local:
			stale++
		case s.Kind != record.SightingStall:
		case local != b.Local:
			t.Errorf("a stall of %v, B is %v", local, b.Local)
		case !s.Ended:
			stalls++
		case s.Duration < 100 || s.Duration > 300:
			t.Errorf("the stall was seen for %v ms", s.Duration)
		}
	}
	if stalls != 1 || stale != 1 || own != 1 {
		t.Errorf("%d stalls, %d stale routes of B, %d ICMPs to itself; want one of each", stalls, stale, own)
	}
}
