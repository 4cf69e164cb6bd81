package export

import (
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxVector is IOV_MAX.
const maxVector = 1024

var vectors = sync.Pool{New: func() any {
	v := make([]unix.Iovec, 0, 64)
	return &v
}}

// readv reads up to n bytes of fd's file from off on into bufs, from their
// offset skip on. It uses the memory of bufs in place, which must not move:
// mapped memory, or memory that Go keeps as the slices hold it.
func readv(fd int, bufs [][]byte, skip, n int, off int64) (int, error) {
	return transfer(unix.SYS_PREADV2, fd, bufs, skip, n, off, 0)
}

// writev writes n bytes of bufs, from their offset skip on, to fd's file at
// off. mode is of RWF_*.
func writev(fd int, bufs [][]byte, skip, n int, off int64, mode int) (int, error) {
	return transfer(unix.SYS_PWRITEV2, fd, bufs, skip, n, off, mode)
}

// transfer repeats the system call while it did all it was asked and there is
// more than fits in one vector, so that a read comes back short only at the
// end of the file.
func transfer(trap uintptr, fd int, bufs [][]byte, skip, n int, off int64, mode int) (int, error) {
	vp := vectors.Get().(*[]unix.Iovec)
	defer putVector(vp)
	done := 0
	for {
		var want int
		*vp, want = vector((*vp)[:0], bufs, skip+done, n-done)
		if want == 0 {
			return done, nil
		}
		got, err := vectorCall(trap, fd, *vp, off+int64(done), mode)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			if done > 0 {
				return done, nil
			}
			return 0, err
		}
		done += got
		if got < want || done == n {
			return done, nil
		}
	}
}

// vector appends the n bytes at offset skip of bufs to v, joining what is
// adjacent, and returns how many bytes it covers.
func vector(v []unix.Iovec, bufs [][]byte, skip, n int) ([]unix.Iovec, int) {
	total := 0
	var end uintptr // only compared: it may be one past the mapping
	for _, b := range bufs {
		if skip >= len(b) {
			skip -= len(b)
			continue
		}
		b = b[skip:]
		skip = 0
		b = b[:min(len(b), n-total)]
		if len(b) == 0 {
			break
		}
		first := unsafe.SliceData(b)
		start := uintptr(unsafe.Pointer(first))
		if last := len(v) - 1; last >= 0 && start == end {
			v[last].SetLen(int(v[last].Len) + len(b))
		} else if len(v) == maxVector {
			break
		} else {
			v = append(v, unix.Iovec{Base: first})
			v[len(v)-1].SetLen(len(b))
		}
		end = start + uintptr(len(b))
		total += len(b)
	}
	return v, total
}

func vectorCall(trap uintptr, fd int, v []unix.Iovec, off int64, mode int) (int, error) {
	// On 64 bits the lower half of the position holds all of it.
	n, _, errno := unix.Syscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(v))), uintptr(len(v)), uintptr(off), 0, uintptr(mode))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func putVector(vp *[]unix.Iovec) {
	clear(*vp)
	if cap(*vp) <= maxVector {
		vectors.Put(vp)
	}
}
