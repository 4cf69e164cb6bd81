package console

import (
	"testing"

	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/queue/queuetest"
)

// FuzzOutput lets the driver write the whole ring: the device prints, or fails.
func FuzzOutput(f *testing.F) {
	f.Add([]byte{0, 0, 0x20, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0}, uint16(1))
	f.Add([]byte{1}, uint16(0x8000))
	mem := queuetest.Memory(f, 4<<20)
	f.Fuzz(func(t *testing.T, ring []byte, avail uint16) {
		in, out := queuetest.New(t, mem, 0x1000, queueSize, 0x10000), queuetest.New(t, mem, 0x100000, queueSize, 0x100000)
		clear(in.Bytes(in.Config.Desc, 0x10000))
		table := out.Bytes(out.Config.Desc, 0x10000)
		clear(table)
		copy(table, ring)
		out.SetAvailIdx(avail)
		text := &sink{}
		dev := New(text)
		err := dev.Activate(virtio.Activation{
			Memory: mem, Features: virtio.TransportFeatures,
			Queues: []*virtio.Queue{in.Activated(), out.Activated()}, Fail: func(error) {},
		})
		if err != nil {
			t.Fatal(err)
		}
		out.Kick()
		dev.Reset()
		if n := len(text.String()); n > queueSize*MaxBuffer {
			t.Errorf("%d bytes", n)
		}
	})
}
