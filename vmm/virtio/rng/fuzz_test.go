package rng

import (
	"testing"

	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/queue/queuetest"
)

// FuzzRing lets the driver write the whole ring: the device fills, or fails.
func FuzzRing(f *testing.F) {
	f.Add([]byte{0, 0, 4, 0, 0, 0, 0, 0, 16, 0, 0, 0, 2, 0, 0, 0}, uint16(1))
	f.Add([]byte{1}, uint16(0x8000))
	mem := queuetest.Memory(f, 1<<20)
	f.Fuzz(func(t *testing.T, ring []byte, avail uint16) {
		drv := queuetest.New(t, mem, 0x1000, queueSize, 0x10000)
		table := drv.Bytes(drv.Config.Desc, 0x8000)
		clear(table)
		copy(table, ring)
		drv.SetAvailIdx(avail)
		dev := New()
		err := dev.Activate(virtio.Activation{
			Memory: mem, Features: virtio.TransportFeatures,
			Queues: []*virtio.Queue{drv.Activated()}, Fail: func(error) {},
		})
		if err != nil {
			t.Fatal(err)
		}
		drv.Kick()
		dev.Reset()
	})
}
