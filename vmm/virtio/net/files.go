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
	all      []file
	switched time.Time // when queues were last taken into use or out of it
}

// file is a descriptor of the device's own. Off says that the kernel brings it no
// frames.
type file struct {
	fd  int
	off bool
}

// switchEvery bounds how often a driver can have the kernel change a tap's queues,
// which takes a lock that all networks of the host have in common.
const switchEvery = 10 * time.Millisecond

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
	time.Sleep(time.Until(f.switched.Add(switchEvery)))
	f.switched = time.Now()
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
