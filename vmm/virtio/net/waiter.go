package net

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm/virtio"
)

// waiter blocks one thread of a pump. Go's own poller would wake a thread that
// hands each frame on to another and looks for more work in vain, which takes
// longer than the frame where processors are busy.
type waiter struct {
	stop *virtio.EventFD // rung once, never read
	fds  [2]unix.PollFd
}

// await waits until fd has one of the events. It returns errStopped when the pump
// is stopped.
func (w *waiter) await(fd int, events int16) error {
	w.fds[1] = unix.PollFd{Fd: int32(fd), Events: events}
	return w.poll(2, nil)
}

// kicked waits until the driver has kicked q.
func (w *waiter) kicked(q *virtio.Queue) error {
	err := w.await(q.Kick.FD(), unix.POLLIN)
	if err == nil {
		q.Kick.Clear()
	}
	return err
}

// sleep waits for d.
func (w *waiter) sleep(d time.Duration) error {
	for end := time.Now().Add(d); d > 0; d = time.Until(end) {
		t := unix.NsecToTimespec(int64(d))
		if err := w.poll(1, &t); err != nil {
			return err
		}
	}
	return nil
}

// poll returns when one of the first n files is ready, or timeout is over.
func (w *waiter) poll(n int, timeout *unix.Timespec) error {
	w.fds[0] = unix.PollFd{Fd: int32(w.stop.FD()), Events: unix.POLLIN}
	_, err := unix.Ppoll(w.fds[:n], timeout, nil)
	for err == unix.EINTR && timeout == nil {
		_, err = unix.Ppoll(w.fds[:n], timeout, nil)
	}
	switch {
	case err == unix.EINTR: // for the caller to look at the time
		return nil
	case err != nil:
		return fmt.Errorf("wait for frames: %w", err)
	case w.fds[0].Revents != 0:
		return errStopped
	}
	return nil
}
