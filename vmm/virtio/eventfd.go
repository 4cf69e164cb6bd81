package virtio

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// EventFD is a doorbell between two parties: an eventfd(2) whose reader parks
// as a goroutine instead of holding a thread.
type EventFD struct {
	fd int

	// mu guards file, which is there from the first Wait or Stop on: Go's poller
	// wakes a thread for each ring of a doorbell that it knows, also where nobody
	// waits because the kernel or a thread of its own listens there.
	mu   sync.Mutex
	file *os.File
}

// NewEventFD makes a doorbell that is not rung.
func NewEventFD() (*EventFD, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("create eventfd: %w", err)
	}
	return &EventFD{fd: fd}, nil
}

// OpenEventFD takes over fd, an eventfd made elsewhere, and sets it
// non-blocking.
func OpenEventFD(fd int) (*EventFD, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set eventfd non-blocking: %w", err)
	}
	return &EventFD{fd: fd}, nil
}

// polled gives the doorbell to Go's poller.
func (e *EventFD) polled() *os.File {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.file == nil {
		e.file = os.NewFile(uintptr(e.fd), "eventfd")
	}
	return e.file
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
	_, err := e.polled().Read(n[:])
	return err == nil
}

// Clear forgets all rings. It never blocks: it is for who has polled FD.
func (e *EventFD) Clear() {
	var n [8]byte
	_, _ = unix.Read(e.fd, n[:])
}

// Stop makes every present and later Wait return false, until Restart.
func (e *EventFD) Stop() { _ = e.polled().SetReadDeadline(time.Unix(1, 0)) }

// Restart undoes Stop.
func (e *EventFD) Restart() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.file != nil {
		_ = e.file.SetReadDeadline(time.Time{})
	}
}

// Close stops the doorbell and closes its descriptor. A Wait returns false from then on;
// nobody may ring it or look at FD any more.
func (e *EventFD) Close() error { return e.polled().Close() }
