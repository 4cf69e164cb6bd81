package export

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// host is what the server needs of the process it runs in.
type host struct {
	// proc is /proc/self/fd: a name N in it leads to the inode of descriptor
	// N, whatever has become of its path.
	proc  int
	pid   int // of the process
	creds credentials
	fds   descriptors
}

func newHost(cached int) (*host, error) {
	proc, err := unix.Open("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /proc/self/fd: %w", err)
	}
	h := &host{proc: proc, pid: os.Getpid()}
	unix.Umask(0)
	if err := errors.Join(h.creds.read(), h.fds.init(cached)); err != nil {
		unix.Close(proc)
		return nil, err
	}
	return h, nil
}

func (h *host) close() error { return unix.Close(h.proc) }

// link names fd's inode relative to h.proc.
func (h *host) link(fd int) string { return strconv.Itoa(fd) }

// reopen opens the inode behind fd again. Whoever passes flags without O_PATH
// has made sure that it is a regular file or a directory.
func (h *host) reopen(fd, flags int) (int, error) { return openat(h.proc, h.link(fd), flags, 0) }

// openat is openat(2) with O_CLOEXEC, again when a signal interrupts it.
func openat(dir int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_CLOEXEC, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// statxMask is what an attribute needs, and what tells inodes apart.
const statxMask = unix.STATX_BASIC_STATS | unix.STATX_MNT_ID

func statxFD(fd int, st *unix.Statx_t) error {
	return unix.Statx(fd, "", unix.AT_EMPTY_PATH, statxMask, st)
}

func statxName(dir int, name string, st *unix.Statx_t) error {
	return unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, statxMask, st)
}
