package container

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/runtime/anchor"
	"github.com/microvm/microvm/runtime/bundle"
)

// makeMountpoints makes what is missing of points in the root file system. No
// symbolic link leads out of it.
func makeMountpoints(rootfs string, points []bundle.Mountpoint) error {
	root, err := os.OpenFile(rootfs, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("open root file system: %w", err)
	}
	defer root.Close()
	for _, p := range points {
		if err := makeMountpoint(root, p); err != nil {
			return fmt.Errorf("make mount point %s: %w", p.Path, err)
		}
	}
	return nil
}

func makeMountpoint(root *os.File, p bundle.Mountpoint) error {
	parts := strings.Split(strings.Trim(filepath.Clean(p.Path), "/"), "/")
	for i := range parts {
		path := strings.Join(parts[:i+1], "/")
		f, err := anchor.OpenIn(root, path)
		if errors.Is(err, unix.ENOENT) {
			err = makeIn(root, strings.Join(parts[:i], "/"), parts[i], p.File && i == len(parts)-1)
		}
		if err != nil {
			return err
		}
		if f != nil {
			f.Close()
		}
	}
	return nil
}

// makeIn makes a directory or file called name in the directory dir of root.
func makeIn(root *os.File, dir, name string, file bool) error {
	parent, err := anchor.OpenIn(root, dir)
	if err != nil {
		return err
	}
	defer parent.Close()
	if !file {
		return unix.Mkdirat(int(parent.Fd()), name, 0o755)
	}
	fd, err := unix.Openat(int(parent.Fd()), name, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}
