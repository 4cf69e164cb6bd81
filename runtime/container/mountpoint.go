package container

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/runtime/anchor"
	"github.com/microvm/microvm/runtime/bundle"
)

// makeMountpoints makes what is missing of the plan's mount points in the root
// file system, and tells the plan. No symbolic link leads out of it.
func makeMountpoints(rootfs string, plan *bundle.Plan) error {
	root, err := os.OpenFile(rootfs, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("open root file system: %w", err)
	}
	defer root.Close()
	for _, p := range plan.Mountpoints {
		made, err := makeMountpoint(root, p)
		if err != nil {
			return fmt.Errorf("make mount point %s: %w", p.Path, err)
		}
		if made {
			plan.Made(p)
		}
	}
	return nil
}

// mostLinks is how many dangling links may be in a row, as for the kernel.
const mostLinks = 40

// makeMountpoint tells whether p was missing. Where links lead to what does not
// exist, that is made: images have such ones for files that engines bind.
func makeMountpoint(root *os.File, p bundle.Mountpoint) (made bool, err error) {
	path := p.Path
	for range mostLinks {
		var end string
		if made, end, err = makePath(root, path, p.File); err != nil || end == "" {
			return made, err
		}
		path = end
	}
	return false, unix.ELOOP
}

// makePath makes what is missing of path. If a dangling link is in the way, it
// returns the path with the link's target instead of the link.
func makePath(root *os.File, path string, file bool) (made bool, next string, err error) {
	parts := slices.DeleteFunc(strings.Split(path, "/"), func(s string) bool { return s == "" || s == "." })
	for i, name := range parts {
		f, err := anchor.OpenIn(root, strings.Join(parts[:i+1], "/"))
		if err == nil {
			f.Close()
			continue
		}
		if !errors.Is(err, unix.ENOENT) {
			return false, "", err
		}
		last := i == len(parts)-1
		target, err := makeIn(root, strings.Join(parts[:i], "/"), name, file && last)
		if err != nil {
			return false, "", err
		}
		if target != "" {
			return false, target + "/" + strings.Join(parts[i+1:], "/"), nil
		}
		made = last
	}
	return made, "", nil
}

// makeIn makes a directory or file called name in the directory dir of root. If
// it is a link, it returns the link's target as a path in root.
func makeIn(root *os.File, dir, name string, file bool) (target string, err error) {
	parent, err := anchor.OpenIn(root, dir)
	if err != nil {
		return "", err
	}
	defer parent.Close()
	if file {
		err = makeFile(int(parent.Fd()), name)
	} else {
		err = unix.Mkdirat(int(parent.Fd()), name, 0o755)
	}
	if !errors.Is(err, unix.EEXIST) {
		return "", err
	}
	buf := make([]byte, unix.PathMax)
	n, lerr := unix.Readlinkat(int(parent.Fd()), name, buf)
	if lerr != nil || n == 0 {
		return "", err
	}
	if target = string(buf[:n]); target[0] != '/' {
		target = dir + "/" + target
	}
	return target, nil
}

func makeFile(dir int, name string) error {
	fd, err := unix.Openat(dir, name, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}
