package engines

import "testing"

// testTerminal works as a person does: the program has a terminal, sees that it
// is resized, and an interrupt from the keyboard ends the job and not the shell.
func testTerminal(t *testing.T, e *engine) {
	s := e.container(t, "--rm", "--interactive", "--tty", image, "sh").Terminal(101, 33)
	s.Say("tty | sed s/^/is:/; stty size | sed s/^/size:/\n")
	s.See("is:/dev/pts/0")
	s.See("size:33 101")
	s.Resize(55, 44)
	s.Say("while test \"$(stty size)\" != '44 55'; do sleep 0.1; done; echo res''ized\n")
	s.See("resized")
	// The job says by itself that it has the terminal: the interrupt of a moment before
	// would be the shell's.
	s.Say("sh -c 'echo sl\"\"eeps; exec sleep 1000'; echo j''ob $?\n")
	s.See("sleeps")
	s.Say("\x03")
	s.Say("echo sur''vived\n")
	s.See("survived")
	s.Say("exit 5\n")
	s.Close(5)
}
