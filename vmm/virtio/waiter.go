package virtio

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// ErrStopped ends what waited when it was told to stop.
var ErrStopped = errors.New("stopped")

// Waiter blocks a thread in the kernel, which is woken by what it waits for and by
// nothing else. Go's own poller would wake a thread that hands each kick on to another
// and looks for more work in vain, and wake the runtime's monitor when nobody else is
// busy, which takes longer than most requests. It is for one goroutine at a time.
type Waiter struct {
	stop *EventFD
	fds  [2]unix.PollFd
}

// NewWaiter returns a waiter that gives up once stop was rung, which nobody may clear.
// stop stays the caller's.
func NewWaiter(stop *EventFD) Waiter { return Waiter{stop: stop} }

// Await waits until fd has one of the events, or fails with ErrStopped.
func (w *Waiter) Await(fd int, events int16) error {
	w.fds[1] = unix.PollFd{Fd: int32(fd), Events: events}
	return w.poll(2, nil)
}

// Kicked waits until the driver has kicked q, or fails with ErrStopped.
func (w *Waiter) Kicked(q *Queue) error {
	err := w.Await(q.Kick.FD(), unix.POLLIN)
	if err == nil {
		q.Kick.Clear()
	}
	return err
}

// Sleep waits for d, or fails with ErrStopped.
func (w *Waiter) Sleep(d time.Duration) error {
	for end := time.Now().Add(d); d > 0; d = time.Until(end) {
		t := unix.NsecToTimespec(int64(d))
		if err := w.poll(1, &t); err != nil {
			return err
		}
	}
	return nil
}

// poll returns when one of the first n files is ready, or timeout is over.
func (w *Waiter) poll(n int, timeout *unix.Timespec) error {
	w.fds[0] = unix.PollFd{Fd: int32(w.stop.FD()), Events: unix.POLLIN}
	_, err := unix.Ppoll(w.fds[:n], timeout, nil)
	for err == unix.EINTR && timeout == nil {
		_, err = unix.Ppoll(w.fds[:n], timeout, nil)
	}
	switch {
	case err == unix.EINTR: // for the caller to look at the time
		return nil
	case err != nil:
		return fmt.Errorf("wait for descriptors: %w", err)
	case w.fds[0].Revents != 0:
		return ErrStopped
	}
	return nil
}
