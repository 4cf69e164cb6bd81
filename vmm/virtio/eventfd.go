package virtio

import (
	"encoding/binary"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// EventFD is a doorbell between two parties: an eventfd(2) whose reader parks
// as a goroutine instead of holding a thread.
type EventFD struct {
	f  *os.File
	fd int
}

// NewEventFD makes a doorbell that is not rung.
func NewEventFD() (*EventFD, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("create eventfd: %w", err)
	}
	return OpenEventFD(fd)
}

// OpenEventFD takes over fd, an eventfd made elsewhere, and sets it
// non-blocking.
func OpenEventFD(fd int) (*EventFD, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set eventfd non-blocking: %w", err)
	}
	return &EventFD{f: os.NewFile(uintptr(fd), "eventfd"), fd: fd}, nil
}

// FD is the descriptor, for ioctls; it stays owned by the EventFD.
func (e *EventFD) FD() int { return e.fd }

// Ring signals the doorbell. It never blocks.
func (e *EventFD) Ring() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	// EAGAIN means the counter is at its end: it is rung already.
	_, _ = unix.Write(e.fd, one[:])
}

// Wait parks until the doorbell was rung, and returns true; or until Stop, and
// returns false. All rings before it returns count as one.
func (e *EventFD) Wait() bool {
	var n [8]byte
	_, err := e.f.Read(n[:])
	return err == nil
}

// Stop makes every present and later Wait return false, until Restart.
func (e *EventFD) Stop() { _ = e.f.SetReadDeadline(time.Unix(1, 0)) }

// Restart undoes Stop.
func (e *EventFD) Restart() { _ = e.f.SetReadDeadline(time.Time{}) }

// Close stops the doorbell and closes its descriptor. Ring and FD must not be
// used afterwards.
func (e *EventFD) Close() error { return e.f.Close() }
