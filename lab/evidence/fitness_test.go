package evidence

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/pmtulab/pmtulab/lab/record"
	"github.com/pmtulab/pmtulab/lab/wait"
)

// A clock of a process that is stopped again and again is found unfit, by about
// as much as it was stopped for: more often than a calibration is long.
func TestCalibrate(t *testing.T) {
	const child = "PMTULAB_TEST_CALIBRATE"
	if os.Getenv(child) != "" {
		os.Stdout.WriteString("ready\n")
		if err := wait.For(t.Context(), 50*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		c, err := Calibrate(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := json.NewEncoder(os.Stdout).Encode(c); err != nil {
			t.Fatal(err)
		}
		return
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestCalibrate$")
	cmd.Env = append(os.Environ(), child+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); line != "ready\n" {
		t.Fatal(line, err)
	}
	answer := make(chan record.Clock)
	go func() {
		var c record.Clock
		_ = json.NewDecoder(lines).Decode(&c)
		answer <- c
	}()
	for {
		for _, step := range []struct {
			signal syscall.Signal
			rest   time.Duration
		}{{syscall.SIGSTOP, 70 * time.Millisecond}, {syscall.SIGCONT, 10 * time.Millisecond}} {
			_ = cmd.Process.Signal(step.signal) // it may have ended
			if err := wait.For(t.Context(), step.rest); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case c := <-answer:
			t.Logf("%+v", c)
			if c.Jitter < 50 || len(c.Unfit()) == 0 {
				t.Errorf("%+v: fit, want it unfit", c)
			}
			_ = cmd.Wait()
			return
		default:
		}
	}
}

// What is measured here is in the range that any machine keeps.
func TestCalibrateHere(t *testing.T) {
	c, err := Calibrate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", c)
	if c.Source == "" || c.Step < 0 || c.Jitter <= 0 || c.Steal < 0 || c.Took < 24 {
		t.Errorf("%+v", c)
	}
}
