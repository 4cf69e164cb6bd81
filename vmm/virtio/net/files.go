package net

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// files are what frames come from and go to. Several are the queues of one tap.
type files struct {
	all   []file
	asked time.Time // when the kernel was last asked to change a tap
}

// file is a descriptor of the device's own. Off says that the kernel brings it no
// frames.
type file struct {
	fd  int
	off bool
}

// askEvery bounds how often a driver can have the kernel change a tap, which takes a lock
// that all networks of the host have in common and tells whoever follows them.
const askEvery = 10 * time.Millisecond

// pace waits until the kernel may be asked again. It holds up nobody but the driver.
func (f *files) pace() {
	time.Sleep(time.Until(f.asked.Add(askEvery)))
	f.asked = time.Now()
}

// setUp has a tap hand over only what the driver said it can take.
func (f *files) setUp(features uint64) error {
	f.pace()
	return setUpTap(f.all[0].fd, features)
}

// use has a tap bring its frames to the first n files only.
func (f *files) use(n int) error {
	for i := range f.all {
		if err := f.turn(&f.all[i], i >= n); err != nil {
			return fmt.Errorf("use %d of the tap's %d queues: %w", n, len(f.all), err)
		}
	}
	return nil
}

func (f *files) turn(queue *file, off bool) error {
	if queue.off == off {
		return nil
	}
	f.pace()
	if err := attachQueue(queue.fd, !off); err != nil {
		return err
	}
	queue.off = off
	return nil
}

// close closes all, which are in use again for whoever has copies.
func (f *files) close() error {
	err := f.use(len(f.all))
	for _, queue := range f.all {
		err = errors.Join(err, unix.Close(queue.fd))
	}
	f.all = nil
	return err
}

func duplicateAll(from []*os.File) (all []file, err error) {
	for _, f := range from {
		fd, err := duplicate(f)
		if err != nil {
			return nil, errors.Join(err, (&files{all: all}).close())
		}
		all = append(all, file{fd: fd})
	}
	return all, nil
}

// duplicate makes a descriptor of f that Go's poller knows nothing of.
func duplicate(f *os.File) (fd int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("open network file: %w", err)
	}
	cerr := raw.Control(func(old uintptr) {
		if fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0); err != nil {
			err = fmt.Errorf("copy network file: %w", err)
			return
		}
		if err = unix.SetNonblock(fd, true); err != nil {
			unix.Close(fd)
			err = fmt.Errorf("set network file non-blocking: %w", err)
		}
	})
	return fd, errors.Join(cerr, err)
}
