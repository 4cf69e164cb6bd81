package command

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
)

// Screen is a terminal with a program, used as a person does.
type Screen struct {
	t    *testing.T
	cmd  *exec.Cmd
	tty  *os.File
	read *bufio.Reader
	hang *time.Timer
}

// Terminal starts the command on a terminal of that size.
func (c *Command) Terminal(columns, rows uint16) *Screen {
	c.t.Helper()
	cmd := exec.Command(c.args[0], c.args[1:]...)
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: rows, Cols: columns})
	if err != nil {
		c.t.Fatalf("%v: %v", c.args, err)
	}
	hang := time.AfterFunc(Patience, func() { _ = cmd.Process.Kill() })
	return &Screen{t: c.t, cmd: cmd, tty: tty, read: bufio.NewReader(tty), hang: hang}
}

// Say types.
func (s *Screen) Say(keys string) {
	s.t.Helper()
	if _, err := s.tty.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

// See reads until a line has what. What is typed is echoed: the text to wait for
// should not be in it.
func (s *Screen) See(what string) {
	s.t.Helper()
	var seen strings.Builder
	for {
		line, err := s.read.ReadString('\n')
		seen.WriteString(line)
		if strings.Contains(line, what) {
			return
		}
		if err != nil {
			s.t.Fatalf("no %q on the terminal: %v: %s", what, err, seen.String())
		}
	}
}

// Resize gives the terminal another size.
func (s *Screen) Resize(columns, rows uint16) {
	s.t.Helper()
	if err := pty.Setsize(s.tty, &pty.Winsize{Rows: rows, Cols: columns}); err != nil {
		s.t.Fatal(err)
	}
}

// Close waits for the program's end and checks its exit code.
func (s *Screen) Close(code int) {
	s.t.Helper()
	defer s.hang.Stop()
	defer s.tty.Close()
	_, _ = s.read.WriteTo(io.Discard)
	_ = s.cmd.Wait() // its error only repeats the code
	if got := s.cmd.ProcessState.ExitCode(); got != code {
		s.t.Errorf("%v: exit code %d, not %d", s.cmd.Args, got, code)
	}
}
