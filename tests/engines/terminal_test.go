package engines

import (
	"bufio"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
)

// testTerminal works as a person does: the program has a terminal, sees that it
// is resized, and an interrupt from the keyboard ends the job and not the shell.
func testTerminal(t *testing.T, e *engine) {
	c := e.container(t, "--rm", "--interactive", "--tty", image, "sh")
	cmd := exec.Command(c.args[0], c.args[1:]...)
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 33, Cols: 101})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	hang := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer hang.Stop()
	screen := bufio.NewReader(f)
	say := func(line string) {
		if _, err := f.WriteString(line); err != nil {
			t.Fatal(err)
		}
	}
	// see reads until a line has what; what was typed is echoed otherwise.
	see := func(what string) {
		t.Helper()
		for {
			line, err := screen.ReadString('\n')
			if strings.Contains(line, what) {
				return
			}
			if err != nil {
				t.Fatalf("no %q on the terminal: %v", what, err)
			}
		}
	}
	say("tty | sed s/^/is:/; stty size | sed s/^/size:/\n")
	see("is:/dev/pts/0")
	see("size:33 101")
	if err := pty.Setsize(f, &pty.Winsize{Rows: 44, Cols: 55}); err != nil {
		t.Fatal(err)
	}
	say("while test \"$(stty size)\" != '44 55'; do sleep 0.1; done; echo res''ized\n")
	see("resized")
	say("echo sl''eeps; sleep 1000; echo j''ob $?\n")
	see("sleeps")
	time.Sleep(300 * time.Millisecond) // the shell starts the program after it has echoed
	say("\x03")
	say("echo sur''vived\n")
	see("survived")
	say("exit 5\n")
	_, _ = screen.WriteTo(io.Discard)
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 5 {
		t.Errorf("%v", err)
	}
}
