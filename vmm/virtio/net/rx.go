package net

import (
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm/guestmem"
	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/queue"
)

// batch is how many frames are handed over before the guest is told.
const batch = 64

// receiver moves frames from the file to the guest.
type receiver struct {
	pump      *pump
	waiter    virtio.Waiter
	queue     *virtio.Queue
	counts    *direction
	pace      pacer
	mergeable bool // one frame may take several buffers

	// held are buffers that were popped and not used yet, room is how many
	// bytes fit into them.
	held  []*queue.Chain
	spare []*queue.Chain
	room  int
	iov   guestmem.Vector
	used  []queue.Used
}

func (r *receiver) run() error {
	for {
		if r.pump.stopped.Load() {
			return virtio.ErrStopped
		}
		if err := r.fill(); err != nil {
			return err
		}
		if err := pause(&r.waiter, &r.pace, r.queue); err != nil {
			return err
		}
		if err := r.readFrames(); err != nil {
			return err
		}
	}
}

// fill waits until the largest frame fits into the buffers held, or the driver
// has no further buffer to give.
func (r *receiver) fill() error {
	r.queue.DisableKick()
	for !r.enough() {
		if r.pump.stopped.Load() {
			return virtio.ErrStopped
		}
		ok, err := r.take()
		if err != nil {
			return err
		}
		if ok || r.queue.EnableKick() {
			continue
		}
		if err := r.waiter.Kicked(r.queue); err != nil {
			return err
		}
	}
	return nil
}

func (r *receiver) enough() bool {
	if !r.mergeable {
		return len(r.held) > 0
	}
	return r.room >= headerSize+maxFrame || len(r.held) == int(r.queue.Size())
}

// take pops one buffer.
func (r *receiver) take() (bool, error) {
	c := &queue.Chain{}
	if n := len(r.spare); n > 0 {
		c, r.spare = r.spare[n-1], r.spare[:n-1]
	}
	ok, err := r.queue.Pop(c)
	if !ok || err != nil {
		r.spare = append(r.spare, c)
		return false, err
	}
	if c.WritableLen <= headerSize {
		return false, fmt.Errorf("receive buffer of %d bytes: %w", c.WritableLen, virtio.ErrDevice)
	}
	r.held = append(r.held, c)
	r.room += c.WritableLen
	return true, nil
}

// readFrames hands over frames until more buffers are needed, or none must be
// for a while. It waits while there is nothing to read.
func (r *receiver) readFrames() error {
	defer r.queue.Notify()
	for frames := 0; r.enough() && frames < batch && r.pace.wait() <= 0; frames++ {
		n, err := r.readv()
		if err == unix.EAGAIN {
			r.queue.Notify()
			return r.waiter.Await(r.pump.fd, unix.POLLIN)
		}
		if err == nil && n == 0 {
			err = io.EOF // no frame is empty: the other end is gone
		}
		if err != nil {
			return fileError{err}
		}
		r.deliver(n)
	}
	return nil
}

func (r *receiver) readv() (n int, err error) {
	for {
		if n, err = r.target().Readv(r.pump.fd); err != unix.EINTR {
			return n, err
		}
	}
}

// target is where a frame is read to.
func (r *receiver) target() guestmem.Vector {
	r.iov = r.iov[:0]
	for i, c := range r.held {
		if i > 0 && !r.mergeable || len(r.iov)+len(c.Writable) > iovMax {
			break
		}
		skip := 0
		if i == 0 {
			skip = r.pump.skip // a buffer is larger than the header
		}
		r.iov = r.iov.Append(c.Writable, skip)
	}
	return r.iov
}

// deliver gives the guest the n bytes that were read to target.
func (r *receiver) deliver(n int) {
	length := n + r.pump.skip
	if length < headerSize+ethernetHeader || length > r.limit() {
		r.counts.dropped.Add(1)
		return
	}
	r.used = r.used[:0]
	for left := length; left > 0; {
		c := r.held[len(r.used)]
		part := min(left, c.WritableLen)
		r.used = append(r.used, queue.Used{Head: c.Head, Written: uint32(part)})
		left -= part
	}
	r.writeHeader(len(r.used))
	r.queue.PushAll(r.used)
	r.counts.add(length - headerSize)
	r.pace.took(length - headerSize)
	r.forget(len(r.used))
}

// limit is how much fits into target.
func (r *receiver) limit() int {
	if !r.mergeable {
		return r.held[0].WritableLen
	}
	return r.room
}

// writeHeader completes the header, which a tap has filled in but for the
// number of buffers (section 5.1.6.4).
func (r *receiver) writeHeader(buffers int) {
	var h [headerSize]byte
	setNumBuffers(h[:], buffers)
	if r.pump.skip > 0 {
		r.held[0].Write(h[:], 0)
	} else {
		r.held[0].Write(h[numBuffersOffset:], numBuffersOffset)
	}
}

// forget drops the first n buffers, which are the driver's again.
func (r *receiver) forget(n int) {
	for _, c := range r.held[:n] {
		r.room -= c.WritableLen
	}
	r.spare = append(r.spare, r.held[:n]...)
	r.held = append(r.held[:0], r.held[n:]...)
}

// release gives back what was taken and not used: the driver passes over
// buffers without a header, and a later pump on the same ring misses nothing.
func (r *receiver) release() {
	for _, c := range r.held {
		r.queue.Push(c.Head, 0)
	}
	r.forget(len(r.held))
	r.queue.Notify()
}
