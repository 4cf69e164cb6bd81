package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
)

// listenUnix makes a socket that only this user may connect to, and members of
// group if one is named. A socket that nobody listens on is replaced.
func listenUnix(path, group string) (*net.UnixListener, error) {
	removeStale(path)
	old := unix.Umask(0o177)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if group == "" {
		return l, nil
	}
	if err := admitGroup(path, group); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// unixListener takes f over.
func unixListener(f *os.File) (*net.UnixListener, error) {
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(errors.New("not a unix socket"), l.Close())
	}
	u.SetUnlinkOnClose(false) // whoever has made it removes the path
	return u, nil
}

// removeStale removes a socket that a process left when it was killed.
func removeStale(path string) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path})
	if err == nil {
		c.Close()
		return
	}
	if errors.Is(err, unix.ECONNREFUSED) {
		_ = os.Remove(path)
	}
}

func admitGroup(path, group string) error {
	g, err := user.LookupGroup(group)
	if err != nil {
		return fmt.Errorf("find the socket's group: %w", err)
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return fmt.Errorf("find the socket's group: %w", err)
	}
	if err := os.Chown(path, -1, gid); err != nil {
		return fmt.Errorf("set the socket's group: %w", err)
	}
	return os.Chmod(path, 0o660)
}

// enterEmptyRoot takes every path away: the root is a directory that exists no
// more, so that nothing can be made in it either.
func enterEmptyRoot() error {
	empty, err := os.MkdirTemp("", "microvm-empty-")
	if err != nil {
		return err
	}
	return errors.Join(os.Chdir(empty), os.Remove(empty), unix.Chroot("."))
}
