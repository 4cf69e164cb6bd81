package vsock

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// poller is an epoll instance whose waiter parks as a goroutine. All it
// watches is edge-triggered: an event tells of a change, and nothing has to be
// consumed or armed again. It is for one goroutine at a time.
type poller struct {
	file   *os.File
	raw    syscall.RawConn
	fd     int
	events [64]unix.EpollEvent
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create epoll: %w", err)
	}
	// A non-blocking descriptor is what makes package os wait for it through
	// the runtime's poller.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set epoll non-blocking: %w", err)
	}
	f := os.NewFile(uintptr(fd), "epoll")
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("wait for epoll: %w", err)
	}
	return &poller{file: f, raw: raw, fd: fd}, nil
}

// add watches fd for the given epoll events under the name id.
func (p *poller) add(fd int, id int32, events uint32) error {
	return p.control(unix.EPOLL_CTL_ADD, fd, id, events)
}

// modify changes the events; those that hold already are reported once more.
func (p *poller) modify(fd int, id int32, events uint32) error {
	return p.control(unix.EPOLL_CTL_MOD, fd, id, events)
}

func (p *poller) control(op, fd int, id int32, events uint32) error {
	ev := unix.EpollEvent{Events: events | unix.EPOLLET, Fd: id}
	if err := unix.EpollCtl(p.fd, op, fd, &ev); err != nil {
		return fmt.Errorf("watch descriptor: %w", err)
	}
	return nil
}

// remove ends the watch on fd.
func (p *poller) remove(fd int) {
	_ = unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, fd, nil)
}

// wait returns what has changed, each event's Fd being the id; valid until the
// next call. When nothing has, it parks if block is set.
func (p *poller) wait(block bool) ([]unix.EpollEvent, error) {
	var n int
	var failed error
	err := p.raw.Read(func(fd uintptr) bool {
		n, failed = unix.EpollWait(int(fd), p.events[:], 0)
		if failed == unix.EINTR {
			n, failed = 0, nil
		}
		return n != 0 || failed != nil || !block
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, fmt.Errorf("wait for sockets: %w", err)
	}
	return p.events[:n], nil
}

func (p *poller) close() { p.file.Close() }
