package watch

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/rootfs/changes"
)

// repeat does to the share what c says that the host has done. The file server
// changes nothing then, but must be the one that is asked: no path leads out of
// the share here.
func (r *Relay) repeat(c *changes.Change) error {
	if c.Kind == changes.None {
		return nil
	}
	dir, err := r.open(r.root, c.Dir, unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	switch c.Kind {
	case changes.Create:
		return create(dir, c.Name, c.Mode)
	case changes.Modify:
		return r.modify(dir, c.Name)
	case changes.Attrib:
		now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}
		return unix.UtimesNanoAt(dir, c.Name, now, unix.AT_SYMLINK_NOFOLLOW)
	case changes.Written:
		return r.write(dir, c.Name)
	case changes.Delete:
		return remove(dir, c.Name, c.Mode)
	case changes.Move:
		return r.move(dir, c)
	default:
		return fmt.Errorf("change of unknown kind %d", c.Kind)
	}
}

// open opens path below dir, or dir itself for an empty one, by O_PATH and flags.
func (r *Relay) open(dir int, path string, flags uint64) (int, error) {
	if path == "" {
		path = "."
	}
	fd, err := unix.Openat2(dir, path, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC | flags,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return -1, err
	}
	var st unix.Statx_t
	err = unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st)
	if err == nil && !r.scanner.devices.known[device(uint64(st.Dev_major), uint64(st.Dev_minor))] {
		err = unix.EXDEV
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func create(dir int, name string, mode uint32) error {
	switch mode {
	case unix.S_IFDIR:
		return unix.Mkdirat(dir, name, 0o755)
	case unix.S_IFLNK:
		return unix.Symlinkat("-", dir, name)
	default:
		return unix.Mknodat(dir, name, mode|0o644, 0)
	}
}

// modify truncates the file to the size that it has. Asking for that before
// makes the kernel drop the file's pages.
func (r *Relay) modify(dir int, name string) error {
	return r.withFile(dir, name, unix.AT_STATX_FORCE_SYNC, func(path string, st *unix.Statx_t) error {
		return unix.Truncate(path, int64(st.Size))
	})
}

func (r *Relay) write(dir int, name string) error {
	return r.withFile(dir, name, unix.AT_STATX_DONT_SYNC, func(path string, _ *unix.Statx_t) error {
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	})
}

// withFile calls f with a path to the regular file and what it is, asked for with
// flags of statx(2).
func (r *Relay) withFile(dir int, name string, flags int, f func(path string, st *unix.Statx_t) error) error {
	fd, err := r.open(dir, name, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|flags, unix.STATX_BASIC_STATS, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return unix.EINVAL
	}
	return f(fmt.Sprintf("/proc/self/fd/%d", fd), &st)
}

func remove(dir int, name string, mode uint32) error {
	refresh(dir, name)
	flags := 0
	if mode == unix.S_IFDIR {
		flags = unix.AT_REMOVEDIR
	}
	return unix.Unlinkat(dir, name, flags)
}

func (r *Relay) move(dir int, c *changes.Change) error {
	to, err := r.open(r.root, c.ToDir, unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	refresh(dir, c.Name)
	return unix.Renameat2(dir, c.Name, to, c.ToName, 0)
}

// refresh makes the kernel ask for the name, whatever it believes to know of
// it: to make what is there already fails, but not without a look.
func refresh(dir int, name string) { _ = unix.Mknodat(dir, name, unix.S_IFREG, 0) }
