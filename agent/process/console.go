package process

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// consoleSocket is the socketpair on which a process's init sends the master
// of the terminal that it has made inside the container.
type consoleSocket struct{ parent, child *os.File }

func newConsoleSocket() (*consoleSocket, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make console socket: %w", err)
	}
	return &consoleSocket{os.NewFile(uintptr(fds[0]), "console"), os.NewFile(uintptr(fds[1]), "console")}, nil
}

func (s *consoleSocket) close() {
	s.parent.Close()
	s.child.Close()
}

// receive takes the master, which is there once the process has started.
func (s *consoleSocket) receive() (*os.File, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	name := make([]byte, 256)
	_, oobn, _, _, err := unix.Recvmsg(int(s.parent.Fd()), name, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("receive terminal: %w", err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(msgs) != 1 {
		return nil, fmt.Errorf("receive terminal: %d messages: %w", len(msgs), err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("receive terminal: %d descriptors: %w", len(fds), err)
	}
	return pollable(fds[0], "terminal")
}

// console takes over the master of the process's terminal. Nothing flows before
// start.
func (p *plumbing) console(master *os.File) error {
	if p.plain {
		if err := setPlainNewlines(master); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.master = master
	if p.stdin != nil {
		p.inputs = append(p.inputs, &input{src: p.stdin, dst: master})
	}
	p.outputs = append(p.outputs, &output{src: master, dst: p.stdout})
	return p.applySize()
}

// setPlainNewlines keeps a terminal from putting carriage returns before
// newlines.
func setPlainNewlines(master *os.File) error {
	raw, err := master.SyscallConn()
	if err != nil {
		return fmt.Errorf("set mode of terminal: %w", err)
	}
	cerr := raw.Control(func(fd uintptr) {
		var mode *unix.Termios
		if mode, err = unix.IoctlGetTermios(int(fd), unix.TCGETS); err == nil {
			mode.Oflag &^= unix.ONLCR
			err = unix.IoctlSetTermios(int(fd), unix.TCSETS, mode)
		}
	})
	if err := errors.Join(err, cerr); err != nil {
		return fmt.Errorf("set mode of terminal: %w", err)
	}
	return nil
}

// resize sets the terminal's size in characters, now or when there is one.
func (p *plumbing) resize(width, height uint32) error {
	if !p.terminal {
		return fail(ErrState, "process has no terminal")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.size = &unix.Winsize{Row: uint16(height), Col: uint16(width)}
	return p.applySize()
}

// asked is the size that was asked for with resize, nil if none was.
func (p *plumbing) asked() *unix.Winsize {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.size
}

func (p *plumbing) applySize() error {
	if p.master == nil || p.size == nil {
		return nil
	}
	raw, err := p.master.SyscallConn()
	if err == nil {
		err = errors.Join(raw.Control(func(fd uintptr) {
			err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, p.size)
		}), err)
	}
	if err != nil {
		return fmt.Errorf("resize terminal: %w", err)
	}
	return nil
}
