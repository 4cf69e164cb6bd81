package queue_test

import (
	"bytes"
	"testing"

	"github.com/microvm/microvm/vmm/guestmem"
	"github.com/microvm/microvm/vmm/virtio/queue"
	"github.com/microvm/microvm/vmm/virtio/queue/queuetest"
)

// A buffer must lie in one run of memory, not in the hole between two, where the
// devices are, nor reach into it.
func TestBufferInTheDeviceHoleIsRefused(t *testing.T) {
	const low, high = 1 << 20, 1 << 32
	mem, err := guestmem.AllocateSealed("hole", []guestmem.Range{{Base: 0, Size: low}, {Base: high, Size: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mem.Close() })
	for _, b := range []struct {
		name string
		addr uint64
		n    uint32
	}{
		{"registers", 0xd000_0000, 4}, {"end of the hole", high - 8, 8}, {"into the hole", low - 4, 8},
		{"out of the hole", high - 4, 8}, {"over the hole", low - 4, 1<<32 - 1},
	} {
		t.Run(b.name, func(t *testing.T) {
			d := queuetest.New(t, mem, 0x1000, ringSize, 0x8000)
			d.SetDesc(0, b.addr, b.n, queuetest.Write, 0)
			d.Publish(0)
			expectBroken(t, d.Queue())
		})
	}
}

// What the device uses is the copy that it checked.
func TestDescriptorChangedAfterPopIsIgnored(t *testing.T) {
	d := newDriver(t)
	q := d.Queue()
	b := d.Add([]byte("question"), 16)
	var c queue.Chain
	if ok, err := q.Pop(&c); !ok || err != nil {
		t.Fatal(ok, err)
	}
	for i := range uint16(ringSize) {
		d.SetDesc(i, 1<<40, 1<<31, queuetest.Next|queuetest.Indirect, i)
	}
	got := make([]byte, 32)
	if n := c.Read(got, 0); string(got[:n]) != "question" {
		t.Errorf("read %q", got[:n])
	}
	if n := c.Write(bytes.Repeat([]byte{7}, 32), 0); n != 16 || !bytes.Equal(b.In, bytes.Repeat([]byte{7}, 16)) {
		t.Errorf("wrote %d: % x", n, b.In)
	}
	q.Push(c.Head, 16)
	if head, n, ok := d.Used(); !ok || head != b.Head || n != 16 {
		t.Errorf("used %d, %d, %v", head, n, ok)
	}
}

// An answer on top of a ring spoils it for the guest, and for nobody else.
func TestDataOnTopOfTheRing(t *testing.T) {
	for name, at := range map[string]func(c *queue.Config) uint64{
		"descriptors": func(c *queue.Config) uint64 { return c.Desc },
		"available":   func(c *queue.Config) uint64 { return c.Avail },
		"used":        func(c *queue.Config) uint64 { return c.Used },
	} {
		t.Run(name, func(t *testing.T) {
			for _, fill := range []byte{0, 1, 2, 4, 0xff} {
				d := newDriver(t)
				q := d.Queue()
				d.SetDesc(0, at(&d.Config), 64, queuetest.Write, 0)
				d.Publish(0)
				var c queue.Chain
				if ok, err := q.Pop(&c); !ok || err != nil {
					t.Fatal(ok, err)
				}
				c.Write(bytes.Repeat([]byte{fill}, 64), 0)
				q.Push(c.Head, 64)
				q.NeedInterrupt()
				// Whatever the guest made of its ring: not more than there are buffers.
				for n := 0; ; n++ {
					ok, err := q.Pop(&c)
					if !ok || err != nil {
						break
					}
					if n == ringSize {
						t.Fatalf("filled with %#x: more buffers in flight than there are", fill)
					}
				}
				if got := d.Bytes(d.Config.Used+2, 2); got[0] != 1 || got[1] != 0 {
					t.Errorf("filled with %#x: used index % x, want 1", fill, got)
				}
			}
		})
	}
}
