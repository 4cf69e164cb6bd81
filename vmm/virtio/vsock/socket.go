package vsock

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// detach turns c, which it closes, into a plain non-blocking descriptor: the
// session watches it by itself.
func detach(c *net.UnixConn) (int, error) {
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("detach socket: %w", err)
	}
	fd, failed := -1, error(nil)
	err = raw.Control(func(n uintptr) {
		fd, failed = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 0)
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return -1, fmt.Errorf("detach socket: %w", err)
	}
	return fd, nil
}

// maxPieces is UIO_MAXIOV: how many buffers one system call takes.
const maxPieces = 1024

// readSocket fills bufs from fd as far as it can without waiting.
func readSocket(fd int, bufs [][]byte) (int, error) {
	bufs = bufs[:min(len(bufs), maxPieces)]
	for {
		n, err := unix.Readv(fd, bufs)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

// writeSocket writes of bufs what fd takes without waiting.
func writeSocket(fd int, bufs [][]byte) (int, error) {
	bufs = bufs[:min(len(bufs), maxPieces)]
	for {
		n, err := unix.Writev(fd, bufs)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

// closeQuietly closes fd so that its peer reads the end of the stream after
// all that was written to it: unread bytes in fd would turn that end into
// ECONNRESET.
func closeQuietly(fd int) {
	_ = unix.Shutdown(fd, unix.SHUT_RDWR) // no more can come in
	var scrap [4096]byte
	for {
		if n, err := unix.Read(fd, scrap[:]); n <= 0 && err != unix.EINTR {
			break
		}
	}
	unix.Close(fd)
}
