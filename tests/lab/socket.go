package lab

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// The net package would link the resolver of libc into the program that is also
// the guest's init, so sockets are made by hand here.

// socketPair returns two connected stream sockets.
func socketPair(name string) (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair %s: %w", name, err)
	}
	// Non-blocking makes os.File use the poller, so that Close ends a Read.
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, nil, fmt.Errorf("make socket pair %s: %w", name, err)
	}
	return os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name), nil
}

// listenAndConnect returns a listening socket in the abstract name space, under
// a name that the kernel picked, and a connection that waits to be accepted.
// When both are closed before that, whoever accepts sees the end at once.
func listenAndConnect(name string) (listener, connection *os.File, err error) {
	server, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket %s: %w", name, err)
	}
	listener = os.NewFile(uintptr(server), name)
	address, err := bindAndListen(server)
	if err != nil {
		listener.Close()
		return nil, nil, fmt.Errorf("listen on socket %s: %w", name, err)
	}
	client, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		listener.Close()
		return nil, nil, fmt.Errorf("make socket %s: %w", name, err)
	}
	connection = os.NewFile(uintptr(client), name)
	if err := unix.Connect(client, address); err != nil {
		listener.Close()
		connection.Close()
		return nil, nil, fmt.Errorf("connect to socket %s: %w", name, err)
	}
	return listener, connection, nil
}

func bindAndListen(fd int) (unix.Sockaddr, error) {
	// An empty name asks for a free abstract one (unix(7), autobind).
	if err := unix.Bind(fd, &unix.SockaddrUnix{}); err != nil {
		return nil, err
	}
	if err := unix.Listen(fd, 1); err != nil {
		return nil, err
	}
	return unix.Getsockname(fd)
}
