package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/microvm/microvm/tests/lab"
)

// The emulation behind the lab is not sound: a machine in a machine is a rare
// guest for it. Now and then it stops dead with all that runs in it, or breaks a
// program in the inner machine (see Options.CPUs of package lab), or every machine
// in it from then on. So a lab is given up when nothing is heard for stall, which is
// less than the tests wait for a command, and what had not finished is run in a new
// one, at most restarts times. And tests that failed are run again in a new lab.
// Neither is done on true hardware.
const (
	stall    = 160 * time.Second
	restarts = 3
	few      = 5
)

// binary is a compiled test that runs in the lab.
type binary struct {
	// path is below bin/tests, dir is where it runs.
	path, dir string
}

// executeInLab runs the suite's binaries one after the other.
func (s *suite) executeInLab(res *result, log io.Writer) error {
	for _, b := range s.binaries {
		if err := s.runBinary(b, res, log); err != nil {
			return fmt.Errorf("%s: %w", b.path, err)
		}
	}
	return nil
}

func (s *suite) runBinary(b binary, res *result, log io.Writer) error {
	names, err := s.list(b)
	if err != nil {
		return err
	}
	if err := s.runToTheEnd(b, names, res, log); err != nil {
		return err
	}
	if lab.CheckHardware() == nil {
		return nil
	}
	return s.runAgain(res, filepath.Base(b.path), few, func(names []string) error {
		return s.runToTheEnd(b, names, res, log)
	})
}

// runToTheEnd runs the named tests, in as many labs as it takes.
func (s *suite) runToTheEnd(b binary, names []string, res *result, log io.Writer) error {
	for try := 0; len(names) > 0; try++ {
		stalled, err := s.runInLab(b, names, res, log)
		if !stalled {
			return err
		}
		// What a lab that stopped dead says of the whole binary does not count.
		pkg := filepath.Base(b.path)
		res.drop(key(pkg, ""))
		names = slices.DeleteFunc(names, func(t string) bool { return res.outcomes[key(pkg, t)].action != "" })
		fmt.Printf("LAB      %-14s the lab's machine stopped dead with %d tests to go\n", s.name, len(names))
		if try == restarts {
			return fmt.Errorf("the lab stopped dead %d times", try+1)
		}
	}
	return nil
}

// list returns the names of the tests in b.
func (s *suite) list(b binary) ([]string, error) {
	cmd := exec.Command(abs(b.path), "-test.list", "^Test")
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), s.env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list tests: %w", err)
	}
	return strings.Fields(string(out)), nil
}

// runInLab runs the named tests and says whether the lab had to be given up.
func (s *suite) runInLab(b binary, names []string, res *result, log io.Writer) (stalled bool, err error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	watchdog := time.AfterFunc(stall, func() { cancel(errStalled) })
	defer watchdog.Stop()
	cmd := exec.CommandContext(ctx, abs("bin/lab"), "run", "-timeout", "1h", "--", abs(b.path),
		"-test.v=test2json", "-test.timeout=50m", "-test.run", "^("+strings.Join(names, "|")+")$")
	// Asked nicely, it ends its machine.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), s.env...)
	heard := func() { watchdog.Reset(stall) }
	var stderr bytes.Buffer
	cmd.Stderr = &listener{w: io.MultiWriter(&stderr, log), heard: heard}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	if err := cmd.Start(); err != nil {
		return false, err
	}
	err = errors.Join(res.convert(&listener{r: stdout, heard: heard}, filepath.Base(b.path), log), cmd.Wait())
	if errors.Is(context.Cause(ctx), errStalled) {
		return true, nil
	}
	if err != nil && (len(res.with("fail")) == 0 || brokeOff(cmd)) {
		said := stderr.String()
		return false, fmt.Errorf("%s: %s", firstLine(err.Error()), strings.TrimSpace(said[max(0, len(said)-4096):]))
	}
	return false, nil
}

var errStalled = errors.New("nothing heard from the lab")

// listener reports every read of r, or write to w.
type listener struct {
	r     io.Reader
	w     io.Writer
	heard func()
}

func (l *listener) Write(p []byte) (int, error) {
	l.heard()
	return l.w.Write(p)
}

func (l *listener) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	l.heard()
	return n, err
}

// convert adds up `go test -v` text.
func (res *result) convert(text io.Reader, name string, log io.Writer) error {
	conv := exec.Command("go", "tool", "test2json", "-t", "-p", name)
	conv.Stdin = text
	conv.Stderr = os.Stderr
	events, err := conv.StdoutPipe()
	if err != nil {
		return err
	}
	if err := conv.Start(); err != nil {
		return err
	}
	return errors.Join(res.collect(events, log), conv.Wait())
}
