package guestmem

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Vector is pieces of memory that one system call fills or sends. It may be used
// again, after [:0], and makes no garbage then, other than package unix.
type Vector []unix.Iovec

// Append adds what is left of bufs behind their first skip bytes. That memory is
// used in place: it has to be mapped, or kept by a slice of Go's.
func (v Vector) Append(bufs [][]byte, skip int) Vector {
	for _, b := range bufs {
		if skip >= len(b) {
			skip -= len(b)
			continue
		}
		v = append(v, unix.Iovec{Base: unsafe.SliceData(b[skip:])})
		v[len(v)-1].SetLen(len(b) - skip)
		skip = 0
	}
	return v
}

// Readv is readv(2).
func (v Vector) Readv(fd int) (int, error) { return v.call(unix.SYS_READV, fd) }

// Writev is writev(2).
func (v Vector) Writev(fd int) (int, error) { return v.call(unix.SYS_WRITEV, fd) }

func (v Vector) call(trap uintptr, fd int) (int, error) {
	n, _, errno := unix.Syscall(trap, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(v))), uintptr(len(v)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
