package qemu

import (
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// nobody owns nothing.
const nobody = 65534

// credential makes QEMU another user than root, without capabilities. It is nil
// for who cannot give it one.
func credential() *syscall.Credential {
	if os.Geteuid() != 0 || !exists(nobody) {
		return nil
	}
	return &syscall.Credential{Uid: nobody, Gid: nobody}
}

// exists tells whether the user namespace has a user id.
func exists(id uint64) bool {
	ids, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(ids)) {
		var first, outside, count uint64
		if _, err := fmt.Sscan(line, &first, &outside, &count); err == nil && id >= first && id-first < count {
			return true
		}
	}
	return false
}

// give makes a pipe QEMU's: it opens it by name.
func give(pipe *os.File) error {
	c := credential()
	if c == nil {
		return nil
	}
	if err := pipe.Chown(int(c.Uid), int(c.Gid)); err != nil {
		return fmt.Errorf("give pipe to QEMU: %w", err)
	}
	return nil
}

// readable returns f, or a copy of it in memory if not everybody may open it.
func readable(f *os.File) (*os.File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if credential() == nil || info.Mode()&0o004 != 0 {
		return f, nil
	}
	fd, err := unix.MemfdCreate(f.Name(), unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create memfd: %w", err)
	}
	c := os.NewFile(uintptr(fd), f.Name())
	if _, err := io.Copy(c, io.NewSectionReader(f, 0, info.Size())); err != nil {
		c.Close()
		return nil, fmt.Errorf("copy %s: %w", f.Name(), err)
	}
	return c, nil
}
