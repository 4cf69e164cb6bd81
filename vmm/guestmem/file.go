package guestmem

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// createFile makes a file in memory of size bytes that has no name. It is on a
// tmpfs of its own where that can be had, for its huge pages: those of a memfd
// hang on a switch for the whole host that is off by default.
func createFile(name string, size int64) (*os.File, error) {
	f, err := createHuge(name)
	if err != nil {
		return createMemfd(name, size)
	}
	if err := f.Truncate(size); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// createMemfd makes a sealed memfd. Nobody who is handed it may shrink it under
// us: that would turn an access into SIGBUS.
func createMemfd(name string, size int64) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("create memfd: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err := f.Truncate(size); err != nil {
		f.Close()
		return nil, err
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal memfd: %w", err)
	}
	return f, nil
}

// createHuge makes the file on a tmpfs that is mounted nowhere and ends with
// it. That needs CAP_SYS_ADMIN.
func createHuge(name string) (*os.File, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open tmpfs: %w", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetString(fs, "huge", "advise"); err != nil {
		return nil, fmt.Errorf("ask tmpfs for huge pages: %w", err)
	}
	if err := unix.FsconfigSetString(fs, "size", "100%"); err != nil {
		return nil, fmt.Errorf("size tmpfs: %w", err)
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, fmt.Errorf("create tmpfs: %w", err)
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("mount tmpfs: %w", err)
	}
	defer unix.Close(mount)
	fd, err := unix.Openat(mount, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create file on tmpfs: %w", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
