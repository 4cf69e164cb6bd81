package blk

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/queue"
)

var errStopped = errors.New("device was stopped")

// run is one activation of the device: a goroutine that takes requests, and one
// for each that is being served.
type run struct {
	device   *Device
	queue    *virtio.Queue
	fail     func(error)
	slots    chan struct{}
	stopping atomic.Bool
	wg       sync.WaitGroup

	mu sync.Mutex // guards the used ring
}

func start(d *Device, q *virtio.Queue, fail func(error)) *run {
	r := &run{device: d, queue: q, fail: fail, slots: make(chan struct{}, workers)}
	r.wg.Go(func() {
		if err := q.Run(r.take); err != nil && !errors.Is(err, errStopped) {
			fail(fmt.Errorf("serve block device: %w", err))
		}
	})
	return r
}

func (r *run) stop() {
	r.stopping.Store(true)
	r.queue.Kick.Stop()
	r.wg.Wait()
}

// take empties the ring. It looks at stopping each time, since a guest can add
// faster than is served.
func (r *run) take() error {
	for !r.stopping.Load() {
		c := new(queue.Chain)
		if ok, err := r.queue.Pop(c); !ok || err != nil {
			return err
		}
		r.slots <- struct{}{}
		r.wg.Go(func() {
			defer func() { <-r.slots }()
			r.serve(c)
		})
	}
	return errStopped
}

// serve answers one request. Without room for a status it can't be answered.
func (r *run) serve(c *queue.Chain) {
	written, err := r.device.serve(c)
	r.mu.Lock()
	r.queue.Push(c.Head, written)
	r.queue.Notify()
	r.mu.Unlock()
	if err != nil {
		r.stopping.Store(true)
		r.fail(err)
	}
}
