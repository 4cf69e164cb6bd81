package export_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// ways are the kinds of locks: of a process, of an open file from a byte on, and of a
// whole file.
const ways = `
import fcntl, sys, struct
def ofd(f, how):
    command = 37 if how & fcntl.LOCK_NB else 38 # F_OFD_SETLK, F_OFD_SETLKW
    fcntl.fcntl(f, command, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 3, 0, 0))
lock = {'lockf': fcntl.lockf, 'flock': fcntl.flock, 'ofd': ofd}[sys.argv[2]]
`

// The holder of a lock keeps it until its input ends. The waiter must be refused
// at once, be interrupted by a signal, and get it in the end.
const holder = ways + `
f = open(sys.argv[1], 'r+'); lock(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()
`

const waiter = ways + `
import signal
f = open(sys.argv[1], 'r+')
try: lock(f, fcntl.LOCK_EX | fcntl.LOCK_NB); print('not refused')
except OSError: pass
class Interrupted(Exception): pass
def interrupt(*_): raise Interrupted
signal.signal(signal.SIGALRM, interrupt); signal.setitimer(signal.ITIMER_REAL, 0.3)
try: lock(f, fcntl.LOCK_EX); print('not blocked')
except Interrupted: print('interrupted', flush=True)
lock(f, fcntl.LOCK_EX); print('got it')
`

// TestLocks runs holder and waiter on either side of the share.
func TestLocks(t *testing.T) {
	back := t.TempDir()
	write(t, filepath.Join(back, "file"), "content")
	mnt := filepath.Join(mount(t, mountConfig{Locks: true, Exports: []mountExport{{Name: "rw", Path: back}}}), "rw")
	for what, dirs := range map[string][2]string{"guest, guest": {mnt, mnt}, "host, guest": {back, mnt}, "guest, host": {mnt, back}} {
		for _, kind := range []string{"lockf", "flock", "ofd"} {
			t.Run(what+", "+kind, func(t *testing.T) { contend(t, dirs[0], dirs[1], kind) })
		}
	}
}

// actor is a script that speaks a line at a time and ends with its input.
type actor struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.Closer
	said *bufio.Scanner
}

func act(t *testing.T, script string, args ...string) *actor {
	t.Helper()
	cmd := exec.Command("python3", append([]string{"-c", script}, args...)...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return &actor{t: t, cmd: cmd, in: in, said: bufio.NewScanner(out)}
}

func (a *actor) says(line string) {
	a.t.Helper()
	if !a.said.Scan() || a.said.Text() != line {
		a.t.Fatalf("script said %q, want %q", a.said.Text(), line)
	}
}

func contend(t *testing.T, first, second, kind string) {
	hold := act(t, holder, filepath.Join(first, "file"), kind)
	hold.says("held")
	wait := act(t, waiter, filepath.Join(second, "file"), kind)
	wait.says("interrupted")
	time.Sleep(50 * time.Millisecond) // most likely it waits again
	hold.in.Close()
	wait.says("got it")
}
