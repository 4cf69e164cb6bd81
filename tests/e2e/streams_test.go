package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/runtime/stdio"
	"github.com/microvm/microvm/tests/command"
)

func TestStdinToStdoutIsExact(t *testing.T) {
	s := newSite(t)
	in := make([]byte, 16<<20+7)
	rand.New(rand.NewSource(1)).Read(in)
	b := s.bundle([]string{"/bin/cat"})
	o := s.command("run", "--bundle", b.dir, s.name()).Input(bytes.NewReader(in)).Run()
	if o.Code != 0 || sha256.Sum256([]byte(o.Stdout)) != sha256.Sum256(in) {
		t.Errorf("exit code %d, %d bytes in, %d bytes out, equal: %v; stderr: %s", o.Code, len(in), len(o.Stdout), o.Stdout == string(in), o.Stderr)
	}
}

func TestStdoutAndStderrKeepApart(t *testing.T) {
	s := newSite(t)
	b := s.bundle(sh("i=0; while [ $i -lt 2000 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done"))
	o := s.runBundle(b)
	var stdout, stderr strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&stdout, "out %d\n", i)
		fmt.Fprintf(&stderr, "err %d\n", i)
	}
	if o.Code != 0 || o.Stdout != stdout.String() || o.Stderr != stderr.String() {
		t.Errorf("%v", o)
	}
}

func TestHalfCloseOfStdin(t *testing.T) {
	s := newSite(t)
	// The container answers only after it has seen the end of its input.
	b := s.bundle(sh("n=$(wc -c); echo got $n; sleep 0.2; echo still here"))
	o := s.command("run", "--bundle", b.dir, s.name()).Input(strings.NewReader("12345")).Run()
	if o.Code != 0 || o.Stdout != "got 5\nstill here\n" {
		t.Errorf("%v", o)
	}
}

func TestOutputJustBeforeExitArrives(t *testing.T) {
	s := newSite(t)
	b := s.bundle(sh("head -c 3000000 /dev/zero"))
	if o := s.runBundle(b); o.Code != 0 || len(o.Stdout) != 3000000 {
		t.Errorf("exit code %d, %d bytes, stderr %s", o.Code, len(o.Stdout), o.Stderr)
	}
}

func TestSlowReaderLosesNothing(t *testing.T) {
	s := newSite(t)
	b := s.bundle(sh("head -c 8000000 /dev/zero; echo end >&2"))
	ctx, cancel := context.WithTimeout(context.Background(), command.Patience)
	defer cancel()
	cmd := s.command("run", "--bundle", b.dir, s.name()).Exec(ctx)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second) // nobody reads: the container has to wait
	n, err := io.Copy(io.Discard, stdout)
	if werr := cmd.Wait(); err != nil || werr != nil || n != 8000000 {
		t.Errorf("%d bytes, %v, %v", n, err, werr)
	}
}

// consoleSocket listens like conmon and returns the terminal it is sent.
func consoleSocket(t *testing.T) (path string, receive func() *master) {
	t.Helper()
	path, descriptor := descriptorSocket(t)
	return path, func() *master {
		t.Helper()
		fd, _ := descriptor()
		// Non-blocking, so that deadlines work.
		if err := unix.SetNonblock(fd, true); err != nil {
			t.Fatal(err)
		}
		m := &master{File: os.NewFile(uintptr(fd), "master")}
		t.Cleanup(func() { m.Close() })
		return m
	}
}

// descriptorSocket listens for one descriptor, which is the caller's, and the
// message that it comes with.
func descriptorSocket(t *testing.T) (path string, receive func() (fd int, message string)) {
	t.Helper()
	dir, err := os.MkdirTemp("", "tty")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path = filepath.Join(dir, "console.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return path, func() (int, string) {
		t.Helper()
		if err := l.SetDeadline(time.Now().Add(command.Patience)); err != nil {
			t.Fatal(err)
		}
		c, err := l.AcceptUnix()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		oob := make([]byte, unix.CmsgSpace(4))
		message := make([]byte, 4096)
		length, n, _, _, err := c.ReadMsgUnix(message, oob)
		if err != nil {
			t.Fatal(err)
		}
		msgs, err := unix.ParseSocketControlMessage(oob[:n])
		if err != nil || len(msgs) != 1 {
			t.Fatal(msgs, err)
		}
		fds, err := unix.ParseUnixRights(&msgs[0])
		if err != nil || len(fds) != 1 {
			t.Fatal(fds, err)
		}
		return fds[0], string(message[:length])
	}
}

// master is the near end of a container's terminal.
type master struct {
	*os.File
	unread string // read, but behind what was expected so far
}

// expect reads from the terminal until it has seen want, and no further.
func expect(t *testing.T, m *master, want string) {
	t.Helper()
	if err := m.SetReadDeadline(time.Now().Add(command.Patience)); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 4096)
	for {
		if _, rest, found := strings.Cut(m.unread, want); found {
			m.unread = rest
			return
		}
		n, err := m.Read(p)
		m.unread += string(p[:n])
		if err != nil && n == 0 {
			t.Fatalf("no %q on the terminal: %v; seen %q", want, err, m.unread)
		}
	}
}

func resize(t *testing.T, master *master, rows, cols uint16) {
	t.Helper()
	raw, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	cerr := raw.Control(func(fd uintptr) {
		err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	})
	if cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
}

func withTerminal(spec *specs.Spec) { spec.Process.Terminal = true }

func TestTerminalThroughConsoleSocket(t *testing.T) {
	s := newSite(t)
	// The signal ends a read without a line.
	script := `tty >/dev/null && echo is a terminal
trap 'echo now $(stty size)' WINCH
echo ready
while :; do read line || continue; echo "line: $line"; [ "$line" = end ] && exit 3; done`
	b := s.bundle(sh(script), withTerminal)
	path, receive := consoleSocket(t)
	id := s.name()
	pidFile := filepath.Join(b.dir, "pid")
	s.command("create", "--bundle", b.dir, "--console-socket", path, "--pid-file", pidFile, id).Output()
	master := receive()
	s.command("start", id).Output()
	expect(t, master, "is a terminal")
	expect(t, master, "ready")
	resize(t, master, 33, 99)
	fmt.Fprint(master, "after resize\n")
	expect(t, master, "now 33 99")
	fmt.Fprint(master, "end\n")
	expect(t, master, "line: end")
	if code := waitPid(t, readPid(t, pidFile)); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
}

// TestForegroundTerminal shows a container's terminal on one of the caller's,
// and writes the output of another into a pipe: without carriage returns.
func TestForegroundTerminal(t *testing.T) {
	s := newSite(t)
	b := s.bundle(sh("tty >/dev/null && echo is a terminal; read x; echo got $x; exit 3"), withTerminal)
	typed, terminal := openTerminal(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	for _, c := range []struct {
		stdout  *os.File
		shown   *master
		newline string
	}{{terminal, typed, "\r\n"}, {w, &master{File: r}, "\n"}} {
		cmd := s.command("run", "--bundle", b.dir, s.name()).Exec(t.Context())
		cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, c.stdout, terminal
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		expect(t, c.shown, "is a terminal"+c.newline)
		fmt.Fprint(typed, "input\r")
		expect(t, c.shown, "input"+c.newline)
		expect(t, c.shown, "got input"+c.newline)
		_ = cmd.Wait() // the code is looked at below
		if code := cmd.ProcessState.ExitCode(); code != 3 {
			t.Errorf("exit code %d", code)
		}
	}
	w.Close()
}

// openTerminal makes a terminal in the mode that people's terminals have: its
// master, and itself.
func openTerminal(t *testing.T) (typed *master, terminal *os.File) {
	t.Helper()
	near, far, err := stdio.NewPTY()
	if err != nil {
		t.Fatal(err)
	}
	cook(t, far.FD())
	dup := func(fd int, nonblock bool) *os.File {
		fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			err = unix.SetNonblock(fd, nonblock)
		}
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), "terminal")
		t.Cleanup(func() { f.Close() })
		return f
	}
	typed, terminal = &master{File: dup(int(near.Fd()), true)}, dup(far.FD(), false) // deadlines need the first
	near.Close()
	far.Close()
	return typed, terminal
}

// cook gives a terminal the mode that people's terminals have.
func cook(t *testing.T, fd int) {
	t.Helper()
	mode, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	mode.Iflag |= unix.ICRNL
	mode.Oflag |= unix.OPOST | unix.ONLCR
	mode.Lflag |= unix.ICANON | unix.ISIG
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, mode); err != nil {
		t.Fatal(err)
	}
}

func TestTerminalWithoutConsoleSocketIsRefused(t *testing.T) {
	s := newSite(t)
	b := s.bundle(sh("true"), withTerminal)
	o := s.command("create", "--bundle", b.dir, s.name()).Run()
	if o.Code == 0 || !strings.Contains(o.Stderr, "console socket") {
		t.Errorf("%v", o)
	}
}
