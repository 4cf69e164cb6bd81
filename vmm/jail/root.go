package jail

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/rootfs/pivot"
)

// where is the directory that is covered: every host has it.
const where = "/proc"

// coverProc mounts a /proc of the process's own pid namespace, without what is
// about the host (subset=pid), over that of the host. Until Enter, unmounts of
// the host go on to reach the namespace, so that it keeps no file system busy.
func coverProc() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("make mounts slaves of the host's: %w", err)
	}
	// Reached through links to inodes of other mounts, it may be read-only.
	if err := unix.Mount("proc", where, "proc", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "subset=pid"); err != nil {
		return fmt.Errorf("mount an own %s: %w", where, err)
	}
	return nil
}

// enterEmptyRoot makes an empty read-only directory the root, and takes every
// other mount away. Threads share root and working directory; processes that
// were started from here follow.
func enterEmptyRoot() error {
	const flags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("tmpfs", where, "tmpfs", flags, "size=4k,nr_inodes=1,mode=555"); err != nil {
		return fmt.Errorf("mount it: %w", err)
	}
	if err := unix.Chdir(where); err != nil {
		return fmt.Errorf("enter it: %w", err)
	}
	return pivot.Enter()
}
