package guest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// listenBacklog is how many connections may wait to be accepted: a burst of
// execs opens some hundred at once.
const listenBacklog = 1024

// addr is an address of vsock.
type addr struct{ cid, port uint32 }

func (a addr) Network() string { return "vsock" }

func (a addr) String() string { return fmt.Sprintf("%d:%d", a.cid, a.port) }

// Conn is a stream over vsock.
type Conn struct {
	*os.File
	local, remote addr
}

var _ net.Conn = (*Conn)(nil)

// LocalAddr implements [net.Conn].
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements [net.Conn].
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// CloseWrite ends the direction to the peer.
func (c *Conn) CloseWrite() error {
	return onDescriptor(c.File, "shut down", func(fd int) error { return unix.Shutdown(fd, unix.SHUT_WR) })
}

// onDescriptor calls do with the descriptor of f, which stays open meanwhile.
func onDescriptor(f *os.File, verb string, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("%s vsock: %w", verb, err)
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = do(int(fd)) }); err != nil {
		return fmt.Errorf("%s vsock: %w", verb, err)
	}
	if inner != nil {
		return fmt.Errorf("%s vsock: %w", verb, inner)
	}
	return nil
}

// Dial connects to a port of the machine with the context id cid.
func Dial(cid, port uint32) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make vsock: %w", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrVM{CID: cid, Port: port}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("connect to port %d of vsock %d: %w", port, cid, err)
	}
	return newConn(fd, addr{cid, port})
}

func newConn(fd int, remote addr) (*Conn, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set vsock non-blocking: %w", err)
	}
	return &Conn{File: os.NewFile(uintptr(fd), "vsock"), remote: remote}, nil
}

// Listener takes connections of the host to a port of this machine.
type Listener struct {
	file *os.File
	port uint32
}

var _ net.Listener = (*Listener)(nil)

// Listen starts listening on port.
func Listen(port uint32) (*Listener, error) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("make vsock: %w", err)
	}
	err = unix.Bind(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_ANY, Port: port})
	if err == nil {
		err = unix.Listen(fd, listenBacklog)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen on vsock port %d: %w", port, err)
	}
	return &Listener{os.NewFile(uintptr(fd), "vsock listener"), port}, nil
}

// Accept implements [net.Listener]; the connections are [Conn], and from the host. vsock
// knows no namespaces: what a process of the guest makes, in a container or not, is
// closed.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		fd, from, err := l.accept()
		if err != nil {
			return nil, fmt.Errorf("accept on vsock port %d: %w", l.port, err)
		}
		if from.cid == api.HostCID {
			return newConn(fd, from)
		}
		unix.Close(fd)
	}
}

func (l *Listener) accept() (fd int, from addr, err error) {
	raw, err := l.file.SyscallConn()
	if err != nil {
		return 0, addr{}, err
	}
	var peer unix.Sockaddr
	var inner error
	err = raw.Read(func(listener uintptr) bool {
		fd, peer, inner = unix.Accept4(int(listener), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		return !errors.Is(inner, syscall.EAGAIN)
	})
	return fd, peerAddr(peer), errors.Join(err, inner)
}

func peerAddr(sa unix.Sockaddr) addr {
	vm, ok := sa.(*unix.SockaddrVM)
	if !ok {
		return addr{}
	}
	return addr{vm.CID, vm.Port}
}

// Close implements [net.Listener].
func (l *Listener) Close() error { return l.file.Close() }

// Addr implements [net.Listener].
func (l *Listener) Addr() net.Addr { return addr{unix.VMADDR_CID_ANY, l.port} }
