package virtio

import (
	"github.com/microvm/microvm/vmm/virtio/queue"
)

// Queue is an activated ring with its two doorbells.
type Queue struct {
	*queue.Queue
	// Kick is rung by the driver when it has added buffers.
	Kick *EventFD
	// Interrupt tells the driver that buffers were used. Use Notify, which
	// asks the ring first whether the driver wants to know.
	Interrupt func()
}

// Notify interrupts the driver if it asked to be told of the buffers that were
// pushed since the last Notify. Safe for concurrent use.
func (q *Queue) Notify() {
	if q.NeedInterrupt() {
		q.Interrupt()
	}
}

// Run calls drain once at first and then whenever the driver may have added
// buffers, until Kick is stopped (it then returns nil) or drain fails (it
// returns that error). drain must Pop until the ring is empty.
func (q *Queue) Run(drain func() error) error {
	err := q.RunWith(drain, func() error {
		if !q.Kick.Wait() {
			return ErrStopped
		}
		return nil
	})
	if err == ErrStopped {
		return nil
	}
	return err
}

// RunWith is Run for who waits for Kick in a way of its own. It returns the first
// error of either function.
func (q *Queue) RunWith(drain, wait func() error) error {
	for {
		q.DisableKick()
		if err := drain(); err != nil {
			return err
		}
		if q.EnableKick() {
			continue
		}
		if err := wait(); err != nil {
			return err
		}
	}
}
