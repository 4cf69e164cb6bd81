package anchor

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/rootfs/pivot"
)

// Mount is something that a container sees in its root file system.
type Mount struct {
	// Destination is a path in the root.
	Destination string
	// Source is a path of the host; empty for what exists in the guest only.
	Source   string
	ReadOnly bool
}

// EnterRoot gives the calling thread a mount namespace whose root is root's
// source, with mounts in it. What exists in the guest only is an empty
// read-only directory: nothing can be put there by mistake. A destination that
// does not exist is passed over.
//
// Mounts and unmounts of the host go on to reach the namespace, so that it
// keeps no file system of the host busy but those that it shows.
func EnterRoot(root Mount, mounts []Mount) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("create mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("make mounts slaves of the host's: %w", err)
	}
	if err := unix.Mount(root.Source, root.Source, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind mount %s: %w", root.Source, err)
	}
	dir, err := os.OpenFile(root.Source, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("open root file system: %w", err)
	}
	defer dir.Close()
	for _, m := range mounts {
		if err := m.make(dir); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("mount %s: %w", m.Destination, err)
		}
	}
	if root.ReadOnly {
		if err := setReadOnly(int(dir.Fd()), 0); err != nil {
			return fmt.Errorf("make root file system read-only: %w", err)
		}
	}
	return enter(dir)
}

// make mounts m below dir, which no symbolic link leads out of.
func (m Mount) make(dir *os.File) error {
	f, err := OpenIn(dir, m.Destination)
	if err != nil {
		return err
	}
	defer f.Close()
	target := fmt.Sprintf("/proc/thread-self/fd/%d", f.Fd())
	if m.Source == "" {
		return unix.Mount("tmpfs", target, "tmpfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=4k,nr_inodes=1")
	}
	if err := unix.Mount(m.Source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if !m.ReadOnly {
		return nil
	}
	mounted, err := OpenIn(dir, m.Destination)
	if err != nil {
		return err
	}
	defer mounted.Close()
	return setReadOnly(int(mounted.Fd()), unix.AT_RECURSIVE)
}

// OpenIn opens path as if root were "/": no symbolic link leads out of it. The
// file is an O_PATH one and the caller's.
func OpenIn(root *os.File, path string) (*os.File, error) {
	fd, err := unix.Openat2(int(root.Fd()), "./"+path, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// setReadOnly changes the mount that fd is the root of, with flags for
// mount_setattr(2).
func setReadOnly(fd int, flags uint) error {
	return unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|flags, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
}

// enter makes dir, a mount point, the root of the namespace.
func enter(dir *os.File) error {
	if err := unix.Fchdir(int(dir.Fd())); err != nil {
		return fmt.Errorf("enter root file system: %w", err)
	}
	return pivot.Enter()
}
