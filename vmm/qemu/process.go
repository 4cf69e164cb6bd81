package qemu

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// program and debianPackage name what has to be installed.
const (
	program       = "qemu-system-x86_64"
	debianPackage = "qemu-system-x86"
)

// find locates the program at path, or in PATH when path is empty.
func find(path string) (string, error) {
	if path == "" {
		path = program
	}
	found, err := exec.LookPath(path)
	if err != nil {
		return "", fmt.Errorf("%w: find %s: %w: install the package %s", ErrUnavailable, path, errors.Unwrap(err), debianPackage)
	}
	return found, nil
}

// process is a child that dies with its parent.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the child is gone
}

// spawn starts path with c's arguments and descriptors. The kernel sends
// PDEATHSIG when the starting thread ends, so that thread is kept until the
// child is gone. A parent that dies between fork and prctl leaves a child
// behind for a moment only: its vhost-user sockets are dead.
func spawn(path string, c *command, stderr io.Writer) (*process, error) {
	cmd := exec.Command(path, c.args...)
	cmd.ExtraFiles = c.files
	cmd.Stderr = stderr
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Dir = "/"
	// A session of its own keeps the terminal's signals away.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true, Credential: credential()}
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer close(p.done)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // the state tells more
		}
	}()
	if err := <-started; err != nil {
		if cmd.SysProcAttr.Credential != nil && errors.Is(err, os.ErrPermission) {
			err = fmt.Errorf("%w: it runs as nobody, who must be able to reach it", err)
		}
		return nil, fmt.Errorf("%w: start %s: %w", ErrUnavailable, path, err)
	}
	return p, nil
}

// kill ends the child. It may have ended.
func (p *process) kill() { _ = p.cmd.Process.Kill() }

// wait returns when the child is gone.
func (p *process) wait() syscall.WaitStatus {
	<-p.done
	status, _ := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return status
}
