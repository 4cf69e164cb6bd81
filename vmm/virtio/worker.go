package virtio

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/microvm/microvm/vmm/virtio/queue"
)

// Worker answers the buffers of one queue in order, on a goroutine of its own.
// Start and Stop take turns; the zero value is stopped.
type Worker struct {
	queue   *Queue
	stopped atomic.Bool
	running sync.WaitGroup
}

// Start answers every buffer of q until Stop. answer returns how many bytes it
// wrote to the buffer, which goes back to the driver even with an error. That
// error, or a broken ring, ends the worker and goes to fail.
func (w *Worker) Start(q *Queue, answer func(*queue.Chain) (written uint32, err error), fail func(error)) {
	w.queue = q
	w.stopped.Store(false)
	w.running.Go(func() {
		if err := q.Run(func() error { return w.drain(q, answer) }); err != nil && !errors.Is(err, ErrStopped) {
			fail(err)
		}
	})
}

// Stop returns when no buffer is being answered any more. It may be called on
// a worker that is stopped.
func (w *Worker) Stop() {
	if w.queue == nil {
		return
	}
	w.stopped.Store(true)
	w.queue.Kick.Stop()
	w.running.Wait()
	w.queue = nil
}

// drain empties the ring. It looks at stopped each time, since a guest can add
// faster than it answers.
func (w *Worker) drain(q *Queue, answer func(*queue.Chain) (uint32, error)) error {
	var c queue.Chain
	for {
		if w.stopped.Load() {
			return ErrStopped
		}
		ok, err := q.Pop(&c)
		if !ok || err != nil {
			return err
		}
		n, err := answer(&c)
		q.Push(c.Head, n)
		q.Notify()
		if err != nil {
			return err
		}
	}
}
