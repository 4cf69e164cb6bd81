package lab

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// child is a process that ends with this one, whatever ends it.
type child struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	err  error         // how it ended; valid after done
}

// startChild starts cmd. The death signal is tied to the thread that forks, so
// one goroutine keeps that thread until the child has ended.
func startChild(cmd *exec.Cmd) (*child, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	c := &child{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			c.err = cmd.Wait()
			close(c.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return c, nil
}

// kill ends the process and waits for that.
func (c *child) kill() {
	c.cmd.Process.Kill()
	<-c.done
}

// passFile gives a file to a command that is not started yet and returns the
// descriptor's number in it.
func passFile(cmd *exec.Cmd, file *os.File) int {
	cmd.ExtraFiles = append(cmd.ExtraFiles, file)
	return 2 + len(cmd.ExtraFiles)
}
