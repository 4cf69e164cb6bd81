package guest

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"github.com/microvm/microvm/tests/lab/wire"
	"golang.org/x/sys/unix"
)

// Exit codes that a shell uses for commands that it could not start.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignal        = 128 // plus the signal's number
)

// runCommand runs the command with its streams on the ports and returns its exit
// code once all its output is sent. Whatever it left running is killed first.
func runCommand(start *wire.Start, control, input *os.File) int {
	out := &sender{port: control}
	process, streams, err := startCommand(start)
	if err != nil {
		out.send(wire.KindStderr, []byte("lab: "+err.Error()+"\n"))
		return startFailureCode(err)
	}
	go feedInput(input, streams)
	go obey(control, process.Pid, streams)
	var relays sync.WaitGroup
	for kind, reader := range streams.outputs {
		relays.Add(1)
		go func() {
			defer relays.Done()
			out.relay(kind, reader)
		}()
	}
	code := reapUntil(process.Pid)
	// A daemon that holds a pipe would keep its reader from ever seeing the end.
	unix.Kill(-1, unix.SIGKILL)
	relays.Wait()
	return code
}

func startCommand(start *wire.Start) (*os.Process, *streams, error) {
	os.Clearenv()
	for _, entry := range start.Env {
		if name, value, ok := cutEnv(entry); ok {
			os.Setenv(name, value)
		}
	}
	if err := os.Chdir(start.Dir); err != nil {
		return nil, nil, err
	}
	program, err := exec.LookPath(start.Args[0])
	if err != nil {
		return nil, nil, err
	}
	streams, err := newStreams(start.Terminal)
	if err != nil {
		return nil, nil, err
	}
	defer streams.closeChildSide()
	process, err := os.StartProcess(program, start.Args, &os.ProcAttr{
		Dir:   start.Dir,
		Env:   start.Env,
		Files: streams.child[:],
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: start.Terminal != nil},
	})
	return process, streams, err
}

func cutEnv(entry string) (name, value string, ok bool) {
	for i := 1; i < len(entry); i++ {
		if entry[i] == '=' {
			return entry[:i], entry[i+1:], true
		}
	}
	return "", "", false
}

func startFailureCode(err error) int {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
		return exitNotFound
	}
	return exitNotExecutable
}

// reapUntil collects every child that ends, as PID 1 must, until pid has.
func reapUntil(pid int) int {
	for {
		var status unix.WaitStatus
		ended, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return exitNotExecutable
		case ended != pid:
		case status.Signaled():
			return exitSignal + int(status.Signal())
		default:
			return status.ExitStatus()
		}
	}
}
