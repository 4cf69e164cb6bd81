package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// openFile takes over a descriptor that the configuration names; what is for
// errors.
func openFile(fd int, what string) (*os.File, error) {
	if fd < 3 {
		return nil, fmt.Errorf("take over descriptor of %s: the configuration has none", what)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
		return nil, fmt.Errorf("take over descriptor %d of %s: %w", fd, what, err)
	}
	return os.NewFile(uintptr(fd), what), nil
}
