package vhostuser

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/queue"
)

// vring is what the front end said about one ring.
type vring struct {
	num  uint16
	base uint16
	addr vringAddr

	// kick is there while the ring is started: SET_VRING_KICK starts it,
	// GET_VRING_BASE stops it.
	kick    *virtio.EventFD
	enabled bool

	call doorbell
	err  doorbell

	// live is the ring as the active device has it.
	live *virtio.Queue
}

func (r *vring) started() bool { return r.kick != nil }

// stop forgets the kick descriptor. The device must not be active.
func (r *vring) stop() {
	if r.kick != nil {
		r.kick.Close()
		r.kick = nil
	}
}

func (r *vring) close() {
	r.stop()
	r.call.set(nil)
	r.err.set(nil)
}

// open makes the queue that the device works on.
func (r *vring) open(t *memTable, features uint64) (*virtio.Queue, error) {
	c := queue.Config{
		Size: r.num, Next: r.base,
		EventIdx: features&virtio.FeatureEventIdx != 0,
		Indirect: features&virtio.FeatureIndirectDesc != 0,
	}
	for _, a := range []struct {
		user  uint64
		guest *uint64
	}{{r.addr.desc, &c.Desc}, {r.addr.avail, &c.Avail}, {r.addr.used, &c.Used}} {
		var err error
		if *a.guest, err = t.guestAddr(a.user); err != nil {
			return nil, err
		}
	}
	q, err := queue.New(t.mem, c)
	if err != nil {
		return nil, err
	}
	r.kick.Restart()
	r.live = &virtio.Queue{Queue: q, Kick: r.kick, Interrupt: r.call.ring}
	return r.live, nil
}

// release takes the ring back from the device, which was reset.
func (r *vring) release() {
	if r.live != nil {
		r.base = r.live.Next()
		r.live = nil
	}
}

// doorbell is an eventfd that may be replaced while it is rung.
type doorbell struct {
	mu sync.Mutex
	e  *virtio.EventFD
}

func (d *doorbell) ring() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.e != nil {
		d.e.Ring()
	}
}

// set replaces the eventfd, which it takes over; nil leaves none.
func (d *doorbell) set(e *virtio.EventFD) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.e != nil {
		d.e.Close()
	}
	d.e = e
}

// openEventFD takes over fd. It refuses what can't be an eventfd: reading and
// writing a file of the front end's choice could block or spin.
func openEventFD(fd int) (*virtio.EventFD, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("examine eventfd: %w", err)
	}
	// Anonymous inodes are the only ones without a type.
	if st.Mode&unix.S_IFMT != 0 {
		unix.Close(fd)
		return nil, fmt.Errorf("%w: descriptor of type %#o where an eventfd belongs", ErrProtocol, st.Mode&unix.S_IFMT)
	}
	return virtio.OpenEventFD(fd)
}
