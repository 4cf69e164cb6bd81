package jail

import (
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// checkDescriptors refuses an open descriptor that is neither standard nor
// handed: a secret of whoever started the process may be behind it.
func checkDescriptors(inherited, handed []int) error {
	for _, fd := range inherited {
		if fd > 2 && !slices.Contains(handed, fd) {
			behind, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)) // for the message
			return fmt.Errorf("descriptor %d (%s) is open, which the configuration does not name", fd, behind)
		}
	}
	return nil
}

// Inherited lists the descriptors that this process was started with: those that
// are not closed on exec, as all are that it opens itself. It is to be called before
// that is changed.
func Inherited() ([]int, error) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, fmt.Errorf("list descriptors: %w", err)
	}
	var fds []int
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			return nil, fmt.Errorf("list descriptors: %w", err)
		}
		// The directory's own is closed by now.
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err == nil && flags&unix.FD_CLOEXEC == 0 {
			fds = append(fds, fd)
		}
	}
	return fds, nil
}
