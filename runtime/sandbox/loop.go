package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// loopDevice is the name of a loop device of the host with the file behind it,
// a writable one if there is one; "" if there is none.
func loopDevice(file fs.FileInfo) (name string, readOnly bool, err error) {
	// The directory loop is there while a file is.
	bound, err := filepath.Glob("/sys/block/loop*/loop")
	if err != nil {
		return "", false, err
	}
	for _, dir := range bound {
		device := filepath.Dir(dir)
		has, err := backedBy(device, file)
		if err != nil {
			return "", false, err
		}
		if has {
			ro, err := os.ReadFile(filepath.Join(device, "ro"))
			name, readOnly = filepath.Base(device), strings.TrimSpace(string(ro)) == "1"
			if err != nil || !readOnly {
				return name, false, nil
			}
		}
	}
	return name, readOnly, nil
}

// backedBy asks by name, and by number for a file that has another name where
// the loop device was made. On an overlay only the name is right.
func backedBy(device string, file fs.FileInfo) (bool, error) {
	path, err := os.ReadFile(filepath.Join(device, "loop/backing_file"))
	if err != nil {
		return false, nothingIfGone(err)
	}
	if other, err := os.Stat(strings.TrimSuffix(string(path), "\n")); err == nil && os.SameFile(other, file) {
		return true, nil
	}
	f, err := os.Open("/dev/" + filepath.Base(device))
	if err != nil {
		return false, nothingIfGone(err)
	}
	defer f.Close()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		return false, nothingIfGone(err)
	}
	st, ok := file.Sys().(*syscall.Stat_t)
	return ok && st.Dev == info.Device && st.Ino == info.Inode, nil
}

// nothingIfGone leaves out errors of a loop device that has lost its file.
func nothingIfGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}
