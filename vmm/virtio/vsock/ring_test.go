package vsock_test

import (
	"encoding/binary"
	"testing"

	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/queue/queuetest"
)

// ring is a driver's ring whose descriptor pairs belong to fixed buffers.
type ring struct {
	*queuetest.Driver
	kick *virtio.EventFD
	irq  chan struct{}
	bufs [][]byte // by head
	free []uint16
}

// newRing lays out a ring with a buffer of room bytes behind each head: of one
// descriptor, or of two when the header has its own.
func newRing(t testing.TB, mem *queuetest.Driver, size uint16, room int, flags uint16, split bool) *ring {
	t.Helper()
	kick, err := virtio.NewEventFD()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kick.Close() })
	r := &ring{Driver: mem, kick: kick, irq: make(chan struct{}, 1), bufs: make([][]byte, size)}
	step := uint16(1)
	if split {
		step = 2
	}
	for i := uint16(0); i < size; i += step {
		addr, b := mem.Alloc(room)
		r.bufs[i] = b
		r.free = append(r.free, i)
		if split {
			mem.SetDesc(i, addr, headerSize, flags|queuetest.Next, i+1)
			mem.SetDesc(i+1, addr+headerSize, uint32(room-headerSize), flags, 0)
		} else {
			mem.SetDesc(i, addr, uint32(room), flags, 0)
		}
	}
	return r
}

func (r *ring) activated() *virtio.Queue {
	return &virtio.Queue{Queue: r.Queue(), Kick: r.kick, Interrupt: func() {
		select {
		case r.irq <- struct{}{}:
		default:
		}
	}}
}

// setLength trims the descriptors of a tx buffer to n bytes.
func (g *guest) setLength(head uint16, n int) {
	field := func(i uint16, v uint32, flags uint16) {
		d := g.tx.Bytes(g.tx.Config.Desc+16*uint64(i), 16)
		binary.LittleEndian.PutUint32(d[8:], v)
		binary.LittleEndian.PutUint16(d[12:], flags)
	}
	switch {
	case !g.split:
		field(head, uint32(n), 0)
	case n <= headerSize:
		field(head, uint32(n), 0)
	default:
		field(head, headerSize, queuetest.Next)
		field(head+1, uint32(n-headerSize), 0)
	}
}
