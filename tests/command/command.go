// Package command runs programs for black-box tests and checks what they say.
package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/microvm/microvm/tests/lab/labtest"
)

// Patience bounds every command: emulated machines are slow, but one that takes
// this long hangs.
const Patience = 3 * time.Minute

// Command is one call of a program.
type Command struct {
	t     *testing.T
	args  []string
	stdin io.Reader
}

// New describes a call of args[0].
func New(t *testing.T, args ...string) *Command { return &Command{t: t, args: args} }

// Input makes r the program's standard input, which is empty otherwise.
func (c *Command) Input(r io.Reader) *Command {
	c.stdin = r
	return c
}

// Behind has another program call it: args comes before its own arguments.
func (c *Command) Behind(args ...string) *Command {
	c.args = append(args, c.args...)
	return c
}

// Outcome is how a command ended.
type Outcome struct {
	Stdout, Stderr string
	Code           int
}

func (o Outcome) String() string {
	return fmt.Sprintf("exit code %d\nstdout: %s\nstderr: %s", o.Code, clip(o.Stdout), clip(o.Stderr))
}

// clip leaves the middle of a long text out.
func clip(s string) string {
	if len(s) > 4096 {
		return s[:2048] + "\n[...]\n" + s[len(s)-2048:]
	}
	return s
}

// Exec is the command, to be started by the caller.
func (c *Command) Exec(ctx context.Context) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...)
	cmd.Stdin = c.stdin
	cmd.WaitDelay = 20 * time.Second
	return cmd
}

// Run runs the command to its end. One that hangs is a failure.
func (c *Command) Run() Outcome {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	cmd := c.Exec(ctx)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	err := cmd.Run()
	labtest.Tell(c.t, began)
	if ctx.Err() != nil {
		c.t.Errorf("%v: hangs\n%s", c.args, clip(stderr.String()))
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.t.Errorf("%v: %v", c.args, err)
	}
	return Outcome{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// Detached runs a command whose children may outlive it: their output is thrown
// away. The test ends unless it succeeds.
func (c *Command) Detached() {
	c.t.Helper()
	c.args = append([]string{"sh", "-c", `exec "$@" >/dev/null 2>&1`, "-"}, c.args...)
	c.Output()
}

// Output is what the command prints; the test ends unless it succeeds.
func (c *Command) Output() string {
	c.t.Helper()
	o := c.Run()
	if o.Code != 0 {
		c.t.Fatalf("%v: %v", c.args, o)
	}
	return o.Stdout
}

// Wants checks the exit code and that stdout has these lines.
func (c *Command) Wants(code int, lines ...string) {
	c.t.Helper()
	o := c.Run()
	if want := strings.Join(append(lines, ""), "\n"); o.Code != code || o.Stdout != want {
		c.t.Errorf("%v: %v\nwant exit code %d and\n%s", c.args, o, code, want)
	}
}

// Eventually polls until ok, and ends the test when that takes too long.
func Eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("waited %v in vain: %s", Patience, what)
}
