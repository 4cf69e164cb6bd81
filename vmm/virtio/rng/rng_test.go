package rng

import (
	"bytes"
	"errors"
	"testing"

	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/queue"
	"github.com/microvm/microvm/vmm/virtio/queue/queuetest"
)

func start(t *testing.T, memory uint64) (*Device, *queuetest.Driver, chan error) {
	t.Helper()
	drv := queuetest.New(t, queuetest.Memory(t, memory), 0x1000, queueSize, memory/2)
	dev := New()
	failed := make(chan error, 1)
	activate(t, dev, drv, failed)
	t.Cleanup(dev.Reset)
	return dev, drv, failed
}

func activate(t *testing.T, dev *Device, drv *queuetest.Driver, failed chan error) {
	t.Helper()
	err := dev.Activate(virtio.Activation{
		Memory: drv.Mem, Features: virtio.TransportFeatures,
		Queues: []*virtio.Queue{drv.Activated()},
		Fail:   func(err error) { failed <- err },
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestBuffersAreFilled(t *testing.T) {
	_, drv, _ := start(t, 1<<20)
	a := bytes.Clone(drv.Do(nil, 64))
	b := drv.Do(nil, 64)
	if len(a) != 64 || len(b) != 64 {
		t.Fatalf("%d and %d bytes, want 64", len(a), len(b))
	}
	if bytes.Equal(a, b) || bytes.Equal(a, make([]byte, 64)) {
		t.Fatalf("not random: %x, %x", a, b)
	}
}

func TestHugeRequestIsAnsweredInPart(t *testing.T) {
	const ask = 3 << 30
	_, drv, _ := start(t, 8<<30)
	drv.SetDesc(0, 1<<20, ask, queuetest.Write, 0)
	drv.Publish(0)
	drv.Kick()
	if _, n := drv.WaitUsed(); n != MaxRequest {
		t.Fatalf("answered %d bytes, want %d", n, MaxRequest)
	}
	if p := drv.Bytes(1<<20+MaxRequest, 4096); !bytes.Equal(p, make([]byte, 4096)) {
		t.Fatal("wrote past the bound")
	}
}

func TestLimitHoldsAcrossDescriptors(t *testing.T) {
	_, drv, _ := start(t, 1<<20)
	drv.SetDesc(0, 0x40000, MaxRequest-1, queuetest.Write|queuetest.Next, 1)
	drv.SetDesc(1, 0x80000, MaxRequest, queuetest.Write, 0)
	drv.Publish(0)
	drv.Kick()
	if _, n := drv.WaitUsed(); n != MaxRequest {
		t.Fatalf("answered %d bytes, want %d", n, MaxRequest)
	}
}

func TestBufferWithoutRoomIsGivenBack(t *testing.T) {
	_, drv, _ := start(t, 1<<20)
	drv.Add([]byte("not for reading"), 0)
	drv.Kick()
	if _, n := drv.WaitUsed(); n != 0 {
		t.Fatalf("%d bytes written to a readable buffer", n)
	}
}

func TestBrokenRingFailsTheDevice(t *testing.T) {
	_, drv, failed := start(t, 1<<20)
	drv.SetDesc(0, 0, 1, queuetest.Write, 0)
	drv.Publish(0)
	drv.Kick()
	if err := <-failed; !errors.Is(err, queue.ErrBroken) {
		t.Fatal(err)
	}
}

func TestResetAndReuse(t *testing.T) {
	dev, drv, failed := start(t, 1<<20)
	for range 100 {
		drv.Do(nil, 8)
		drv.FreeAll()
		dev.Reset()
		dev.Reset()
		drv.Config.Next++ // one request was answered
		activate(t, dev, drv, failed)
	}
}

func TestActivateWithoutQueue(t *testing.T) {
	dev := New()
	if err := dev.Activate(virtio.Activation{}); err != nil {
		t.Fatal(err)
	}
	dev.Reset()
}
