package mmio

import (
	"errors"
	"testing"

	"github.com/microvm/microvm/vmm/virtio"
)

func TestIdentity(t *testing.T) {
	d := newDriver(t)
	for name, want := range map[string]uint32{
		"MagicValue": 0x74726976, "Version": 2, "DeviceID": 42, "Status": 0, "QueueNumMax": ringSize,
		"QueueReady": 0, "InterruptStatus": interruptUsed, "SHMLenLow": 0xffff_ffff, "SHMLenHigh": 0xffff_ffff,
	} {
		if got := d.read(name); got != want {
			t.Errorf("%s: got %#x, want %#x", name, got, want)
		}
	}
}

func TestFeaturesAreOfferedInTwoHalves(t *testing.T) {
	d := newDriver(t)
	var got uint64
	for sel := range uint32(2) {
		d.must("DeviceFeaturesSel", sel)
		got |= uint64(d.read("DeviceFeatures")) << (32 * sel)
	}
	if want := d.dev.Features() | virtio.TransportFeatures; got != want {
		t.Errorf("got %#x, want %#x", got, want)
	}
	d.must("DeviceFeaturesSel", 7)
	if v := d.read("DeviceFeatures"); v != 0 {
		t.Errorf("half 7 reads %#x", v)
	}
}

func TestActivation(t *testing.T) {
	d := newDriver(t)
	d.start()
	if s := d.read("Status"); s != running {
		t.Fatalf("status %#x, want %#x", s, running)
	}
	a := d.dev.last()
	if a.Features != virtio.TransportFeatures || len(a.Queues) != 2 || a.Queues[0].Size() != ringSize {
		t.Errorf("activated with features %#x and %d queues", a.Features, len(a.Queues))
	}
	for i := range uint32(2) {
		d.must("QueueNotify", i)
		if got := <-d.dev.kicked; got != int(i) {
			t.Errorf("queue %d was kicked, want %d", got, i)
		}
	}
}

func TestDisabledQueueIsNil(t *testing.T) {
	d := newDriver(t)
	d.negotiate(virtio.TransportFeatures)
	d.ring(1)
	d.must("QueueReady", 1)
	d.must("Status", running)
	if a := d.dev.last(); a.Queue(0) != nil || a.Queue(1) == nil {
		t.Errorf("queues are %v, want only the second", a.Queues)
	}
}

func TestInterrupts(t *testing.T) {
	d := newDriver(t)
	d.start()
	d.dev.last().Queues[0].Interrupt()
	if !d.reg.Interrupt().Wait() || d.read("InterruptStatus") != interruptUsed {
		t.Fatalf("interrupt status %#x", d.read("InterruptStatus"))
	}
	d.reg.ConfigChanged()
	if d.read("InterruptStatus") != interruptUsed|interruptConfig || d.read("ConfigGeneration") != 1 {
		t.Errorf("interrupt status %#x, generation %d", d.read("InterruptStatus"), d.read("ConfigGeneration"))
	}
	d.must("InterruptACK", AckUsed)
	if got := d.read("InterruptStatus"); got != interruptUsed|interruptConfig {
		t.Errorf("after the ack of a used buffer: %#x", got)
	}
	if d.write("InterruptACK", 0xffff_fff0) || d.read("InterruptStatus") != interruptUsed|interruptConfig {
		t.Error("ack of interrupts that do not exist had an effect or was not counted")
	}
	d.must("InterruptACK", interruptUsed|interruptConfig)
	if got := d.read("InterruptStatus"); got != interruptUsed {
		t.Errorf("after the ack of both: %#x", got)
	}
}

func TestFaultAsksForReset(t *testing.T) {
	d := newDriver(t)
	d.start()
	first := d.dev.last()
	first.Fail(errors.New("ring is broken"))
	first.Fail(errors.New("still broken"))
	if s := d.read("Status"); s != running|statusNeedsReset {
		t.Fatalf("status %#x, want DEVICE_NEEDS_RESET", s)
	}
	if d.read("InterruptStatus") != interruptUsed|interruptConfig || d.reports() != 1 {
		t.Errorf("interrupt status %#x, %d reports; want one of each", d.read("InterruptStatus"), d.reports())
	}
	d.must("Status", 0)
	if d.read("Status") != 0 || d.read("InterruptStatus") != interruptUsed {
		t.Errorf("after reset: status %#x, interrupts %#x", d.read("Status"), d.read("InterruptStatus"))
	}
	d.start()
	first.Fail(errors.New("late word of the first activation"))
	if s := d.read("Status"); s != running {
		t.Errorf("a fault of an earlier activation reached this one: status %#x", s)
	}
}

func TestDeviceThatDoesNotStart(t *testing.T) {
	d := newDriver(t)
	d.dev.activateErr = errors.New("out of descriptors")
	d.start()
	if s := d.read("Status"); s&statusNeedsReset == 0 || d.reports() != 1 {
		t.Errorf("status %#x, %d reports", s, d.reports())
	}
	d.dev.activateErr = nil
	d.must("Status", 0)
	d.start()
	if s := d.read("Status"); s != running {
		t.Errorf("status %#x after a second try", s)
	}
}

func TestConfigSpace(t *testing.T) {
	d := newDriver(t)
	d.reg.Write(offsetConfig+4, []byte{1, 2})
	for _, width := range []int{1, 2, 4, 8} {
		p := make([]byte, width)
		d.reg.Read(offsetConfig+4, p)
		if p[0] != 1 || width > 1 && p[1] != 2 {
			t.Errorf("%d bytes read as %x", width, p)
		}
	}
	p := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	d.reg.Read(Size-8, p)
	for _, b := range p {
		if b != 0 {
			t.Fatalf("past the end reads %x, want zeros", p)
		}
	}
	d.reg.Write(Size-8, p)
}

func TestCloseStopsTheDevice(t *testing.T) {
	d := newDriver(t)
	d.start()
	d.reg.Close()
	if d.dev.resets != 1 || d.dev.active {
		t.Errorf("%d resets, active %v", d.dev.resets, d.dev.active)
	}
	d.reg.Close()
	if d.write("Status", statusAcknowledge) || d.write("QueueNotify", 0) {
		t.Error("a closed transport accepts writes")
	}
}
