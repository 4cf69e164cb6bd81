package stdio

import (
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// sendTimeout bounds the wait for whoever listens on a socket.
const sendTimeout = 10 * time.Second

// sendDescriptor sends fd, which stays the caller's, in a message of its own
// to the unix socket at path.
func sendDescriptor(path, message string, fd int) error {
	c, err := net.DialTimeout("unix", path, sendTimeout)
	if err != nil {
		return err
	}
	defer c.Close()
	u, ok := c.(*net.UnixConn)
	if !ok {
		return errors.New("not a unix socket")
	}
	if err := u.SetDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	_, _, err = u.WriteMsgUnix([]byte(message), unix.UnixRights(fd), nil)
	return err
}

// What a process is for, in the message that comes with its pidfd.
const (
	PidfdInit = "standard" // a container's first
	PidfdExec = "setns"
)

// SendPidfd sends a descriptor of the process pid to the unix socket at path,
// as runc does for --pidfd-socket; an empty path is nothing to do.
func SendPidfd(path, kind string, pid int) error {
	if path == "" {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err == nil {
		defer unix.Close(fd)
		err = sendDescriptor(path, kind, fd)
	}
	if err != nil {
		return fmt.Errorf("send pidfd of process %d to %s: %w", pid, path, err)
	}
	return nil
}
