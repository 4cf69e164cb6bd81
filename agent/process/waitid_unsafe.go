package process

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// childInfo is siginfo_t as waitid(2) fills it for SIGCHLD
// (include/uapi/asm-generic/siginfo.h).
type childInfo struct {
	signo, errno, code int32
	_                  int32
	pid                int32
	uid                uint32
	status             int32
}

// peekExited returns the pid of some child that has ended and has not been
// waited for, and leaves it there; 0 if there is none.
func peekExited() (int, error) {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	if errors.Is(err, unix.ECHILD) {
		return 0, nil
	}
	return int((*childInfo)(unsafe.Pointer(&info)).pid), err
}
