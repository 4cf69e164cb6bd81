// Package queuetest is the driver's side of a virtqueue in plain memory, for
// tests of rings and devices. It can break every rule a hostile guest can.
package queuetest

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/microvm/microvm/vmm/guestmem"
	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/queue"
)

// Descriptor flags (virtio 1.2, section 2.7.5).
const (
	Next     = 1
	Write    = 2
	Indirect = 4
)

// Memory allocates guest memory of the given size in bytes at address 0.
func Memory(t testing.TB, size uint64) *guestmem.Memory {
	t.Helper()
	m, err := guestmem.AllocateSealed("queuetest", []guestmem.Range{{Base: 0, Size: size}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// Driver owns one ring and a run of memory for its buffers.
type Driver struct {
	t      testing.TB
	Mem    *guestmem.Memory
	Config queue.Config

	heap     uint64 // next free buffer address
	heapEnd  uint64
	heapBase uint64
	nextDesc uint16
	availIdx uint16
	usedIdx  uint16
	kick     *virtio.EventFD
	irq      *virtio.EventFD
}

// New lays a ring of the given size out at address base of mem, followed by
// heap bytes for buffers. It uses EVENT_IDX and indirect descriptors.
func New(t testing.TB, mem *guestmem.Memory, base uint64, size uint16, heap uint64) *Driver {
	t.Helper()
	align := func(a, to uint64) uint64 { return (a + to - 1) / to * to }
	n := uint64(size)
	desc := align(max(base, 0x1000), 4096)
	avail := desc + 16*n
	used := align(avail+6+2*n, 4)
	start := align(used+6+8*n, 4096)
	d := &Driver{
		t: t, Mem: mem, heap: start, heapBase: start, heapEnd: start + heap,
		Config: queue.Config{Size: size, Desc: desc, Avail: avail, Used: used, EventIdx: true, Indirect: true},
	}
	t.Cleanup(d.close)
	return d
}

// close closes the doorbells. What a test is to clean up that was made later, such as
// the device, comes before: nobody may wait for a doorbell that is closed, whose
// descriptor is somebody else's by then.
func (d *Driver) close() {
	for _, e := range []*virtio.EventFD{d.kick, d.irq} {
		if e != nil {
			e.Close()
		}
	}
}

// Queue opens the device's side of the ring.
func (d *Driver) Queue() *queue.Queue {
	d.t.Helper()
	q, err := queue.New(d.Mem, d.Config)
	if err != nil {
		d.t.Fatal(err)
	}
	return q
}

// Activated opens the device's side of the ring with doorbells.
func (d *Driver) Activated() *virtio.Queue {
	d.t.Helper()
	for _, e := range []**virtio.EventFD{&d.kick, &d.irq} {
		if *e != nil {
			continue
		}
		fd, err := virtio.NewEventFD()
		if err != nil {
			d.t.Fatal(err)
		}
		*e = fd
	}
	d.kick.Restart()
	return &virtio.Queue{Queue: d.Queue(), Kick: d.kick, Interrupt: d.irq.Ring}
}

// Bytes returns n bytes of guest memory at addr.
func (d *Driver) Bytes(addr, n uint64) []byte {
	d.t.Helper()
	b, err := d.Mem.Slice(addr, n)
	if err != nil {
		d.t.Fatal(err)
	}
	return b
}

// Alloc takes n bytes off the heap and returns their address and contents.
func (d *Driver) Alloc(n int) (uint64, []byte) {
	d.t.Helper()
	addr := d.heap
	d.heap += (uint64(n) + 15) &^ 15
	if d.heap > d.heapEnd {
		d.t.Fatal("queuetest: heap is full")
	}
	return addr, d.Bytes(addr, uint64(n))
}

// FreeAll empties the heap; no buffer may be in flight.
func (d *Driver) FreeAll() { d.heap = d.heapBase }

// SetDesc writes descriptor i of the ring's table, unchecked.
func (d *Driver) SetDesc(i uint16, addr uint64, n uint32, flags, next uint16) {
	PutDesc(d.Bytes(d.Config.Desc+16*uint64(i), 16), addr, n, flags, next)
}

// PutDesc encodes a descriptor into b.
func PutDesc(b []byte, addr uint64, n uint32, flags, next uint16) {
	binary.LittleEndian.PutUint64(b, addr)
	binary.LittleEndian.PutUint32(b[8:], n)
	binary.LittleEndian.PutUint16(b[12:], flags)
	binary.LittleEndian.PutUint16(b[14:], next)
}

// Publish makes head available, unchecked.
func (d *Driver) Publish(head uint16) {
	slot := uint64(d.availIdx & (d.Config.Size - 1))
	binary.LittleEndian.PutUint16(d.Bytes(d.Config.Avail+4+2*slot, 2), head)
	d.SetAvailIdx(d.availIdx + 1)
}

// SetAvailIdx writes the avail index, unchecked.
func (d *Driver) SetAvailIdx(i uint16) {
	d.availIdx = i
	binary.LittleEndian.PutUint16(d.Bytes(d.Config.Avail+2, 2), i)
}

// Kick rings the device's doorbell.
func (d *Driver) Kick() {
	if d.kick != nil {
		d.kick.Ring()
	}
}

// Buffer is a chain that Add published.
type Buffer struct {
	Head uint16
	// In holds what the device may write.
	In []byte
}

// Add publishes a chain with out for the device to read and room for in bytes
// to write; either may be empty. It does not kick. Descriptors are taken in a
// circle: the caller keeps fewer than the ring's size in flight.
func (d *Driver) Add(out []byte, in int) Buffer {
	d.t.Helper()
	var b Buffer
	head := d.nextDesc
	b.Head = head
	take := func() uint16 {
		i := d.nextDesc
		d.nextDesc = (d.nextDesc + 1) & (d.Config.Size - 1)
		return i
	}
	if len(out) > 0 {
		addr, p := d.Alloc(len(out))
		copy(p, out)
		i := take()
		var flags uint16
		if in > 0 {
			flags = Next
		}
		d.SetDesc(i, addr, uint32(len(out)), flags, d.nextDesc)
	}
	if in > 0 {
		addr, p := d.Alloc(in)
		b.In = p
		d.SetDesc(take(), addr, uint32(in), Write, 0)
	}
	d.Publish(head)
	return b
}

// Used takes the next entry of the used ring, if there is one.
func (d *Driver) Used() (head uint16, written uint32, ok bool) {
	if binary.LittleEndian.Uint16(d.Bytes(d.Config.Used+2, 2)) == d.usedIdx {
		return 0, 0, false
	}
	e := d.Bytes(d.Config.Used+4+8*uint64(d.usedIdx&(d.Config.Size-1)), 8)
	d.usedIdx++
	// Ask for an interrupt at the next one.
	binary.LittleEndian.PutUint16(d.Bytes(d.Config.Avail+4+2*uint64(d.Config.Size), 2), d.usedIdx)
	return uint16(binary.LittleEndian.Uint32(e)), binary.LittleEndian.Uint32(e[4:]), true
}

// Patience is for what takes no time, on a host that is busy with other things.
const Patience = time.Minute

// WaitUsed waits for the next entry of the used ring; the test fails when none
// comes within Patience.
func (d *Driver) WaitUsed() (head uint16, written uint32) {
	d.t.Helper()
	for end := time.Now().Add(Patience); time.Now().Before(end); time.Sleep(50 * time.Microsecond) {
		if h, n, ok := d.Used(); ok {
			return h, n
		}
	}
	d.t.Fatalf("queuetest: device used no buffer within %v", Patience)
	return 0, 0
}

// Do sends one request and returns the device's answer.
func (d *Driver) Do(out []byte, in int) []byte {
	d.t.Helper()
	b := d.Add(out, in)
	d.Kick()
	head, n := d.WaitUsed()
	if head != b.Head || int(n) > in {
		d.t.Fatalf("queuetest: used head %d with %d bytes, want head %d with at most %d", head, n, b.Head, in)
	}
	return b.In[:n]
}
