// Package pivot changes the root of a mount namespace.
package pivot

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Enter makes the working directory, the root of a mount, the root directory
// of the calling thread's mount namespace and takes every other mount away.
// All threads that share root and working directory follow.
//
// An initramfs can't be exchanged, but covered.
func Enter() error {
	err := unix.PivotRoot(".", ".")
	if err == nil {
		err = unix.Unmount(".", unix.MNT_DETACH)
	} else if errors.Is(err, unix.EINVAL) {
		if err = unix.Mount(".", "/", "", unix.MS_MOVE, ""); err == nil {
			err = unix.Chroot(".")
		}
	}
	if err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	return unix.Chdir("/")
}
