package mmio

import (
	"bytes"
	"sync"
	"testing"

	"github.com/microvm/microvm/vmm/virtio"
)

// Queue set-up.

func TestQueueSizes(t *testing.T) {
	for size, want := range map[uint32]bool{
		0: false, 1: true, 3: false, 4: true, ringSize: true, 2 * ringSize: false,
		1 << 16: false, 1<<16 | ringSize: false, 1 << 31: false, 0xffff_ffff: false,
	} {
		d := newDriver(t)
		d.negotiate(virtio.TransportFeatures)
		d.ring(0)
		d.must("QueueNum", size)
		if got := d.write("QueueReady", 1); got != want || d.read("QueueReady") == 1 != want {
			t.Errorf("queue of %d: accepted %v, want %v", size, got, want)
		}
	}
}

func TestQueueAddresses(t *testing.T) {
	for _, test := range []struct {
		name, low string
		addr      uint64
	}{
		{"misaligned descriptors", "QueueDesc", 0x10008},
		{"misaligned avail ring", "QueueDriver", 0x10081},
		{"misaligned used ring", "QueueDevice", 0x11002},
		{"no descriptors", "QueueDesc", 0},
		{"used ring on the descriptors", "QueueDevice", 0x10000},
		{"avail ring in the used ring", "QueueDriver", 0x10098},
		{"outside of memory", "QueueDesc", 1 << 20},
		{"across the end of memory", "QueueDesc", 1<<20 - 16},
		{"in the device hole", "QueueDesc", 0xd000_0000},
		{"wrapping", "QueueDesc", 1<<64 - 16},
	} {
		d := newDriver(t)
		d.negotiate(virtio.TransportFeatures)
		d.ring(0)
		d.must(test.low+"Low", uint32(test.addr))
		d.must(test.low+"High", uint32(test.addr>>32))
		if d.write("QueueReady", 1) || d.read("QueueReady") != 0 || d.reports() != 1 {
			t.Errorf("%s: accepted, or not reported", test.name)
		}
	}
}

func TestQueueWithoutAddresses(t *testing.T) {
	d := newDriver(t)
	d.negotiate(virtio.TransportFeatures)
	d.must("QueueNum", ringSize)
	if d.write("QueueReady", 1) {
		t.Error("accepted")
	}
}

func TestQueueSelectOutOfRange(t *testing.T) {
	d := newDriver(t)
	d.negotiate(virtio.TransportFeatures)
	for _, sel := range []uint32{2, 0x8000_0000, 0xffff_ffff} {
		d.must("QueueSel", sel)
		if d.read("QueueNumMax") != 0 || d.read("QueueReady") != 0 {
			t.Errorf("queue %#x exists", sel)
		}
		for _, name := range []string{"QueueNum", "QueueReady", "QueueDescLow", "QueueDeviceHigh"} {
			if d.write(name, 1) {
				t.Errorf("%s of queue %#x was accepted", name, sel)
			}
		}
	}
}

func TestQueueIsFrozenWhileReadyAndAfterDriverOK(t *testing.T) {
	names := []string{
		"QueueNum", "QueueDescLow", "QueueDescHigh", "QueueDriverLow", "QueueDriverHigh",
		"QueueDeviceLow", "QueueDeviceHigh",
	}
	d := newDriver(t)
	d.negotiate(virtio.TransportFeatures)
	d.ring(0)
	d.must("QueueReady", 1)
	for _, name := range names {
		if d.write(name, 4) {
			t.Errorf("%s of a ready queue was accepted", name)
		}
	}
	d.must("QueueReady", 0)
	d.must("QueueNum", 4)
	d.must("QueueReady", 1)
	d.must("Status", running)
	for sel := range uint32(2) {
		d.must("QueueSel", sel)
		for _, name := range append(names, "QueueReady") {
			if d.write(name, 0) || d.write(name, 1) {
				t.Errorf("%s of queue %d after DRIVER_OK was accepted", name, sel)
			}
		}
	}
	if got := d.dev.last().Queues[0].Size(); got != 4 {
		t.Errorf("size %d", got)
	}
}

func TestQueueSetupBeforeFeaturesOK(t *testing.T) {
	d := newDriver(t)
	d.must("Status", statusAcknowledge)
	for _, name := range []string{"QueueNum", "QueueReady", "QueueDescLow"} {
		if d.write(name, 1) {
			t.Errorf("%s was accepted", name)
		}
	}
}

// State.

func TestKickWithoutDevice(t *testing.T) {
	d := newDriver(t)
	for _, q := range []uint32{0, 1, 2, 0xffff_ffff} {
		if d.write("QueueNotify", q) {
			t.Errorf("kick %d before DRIVER_OK was accepted", q)
		}
	}
	d.start()
	if d.write("QueueNotify", 2) || d.write("QueueNotify", 0x10000) {
		t.Error("kick of a queue that does not exist was accepted")
	}
	d.must("Status", 0)
	if d.write("QueueNotify", 0) {
		t.Error("kick after reset was accepted")
	}
}

func TestFeatures(t *testing.T) {
	for _, test := range []struct {
		name     string
		features uint64
		ok       bool
	}{
		{"all that is offered", virtio.TransportFeatures | 1<<3, true},
		{"only VERSION_1", virtio.FeatureVersion1, true},
		{"none", 0, false},
		{"without VERSION_1", virtio.FeatureEventIdx, false},
		{"unoffered device bit", virtio.FeatureVersion1 | 1<<5, false},
		{"packed ring", virtio.FeatureVersion1 | 1<<34, false},
		{"everything", 1<<64 - 1, false},
	} {
		d := newDriver(t)
		d.must("Status", statusAcknowledge|statusDriver)
		d.features(test.features)
		accepted := d.write("Status", statusAcknowledge|statusDriver|statusFeaturesOK)
		if got := d.read("Status")&statusFeaturesOK != 0; got != test.ok || accepted != test.ok {
			t.Errorf("%s: FEATURES_OK is %v, want %v", test.name, got, test.ok)
		}
	}
}

func TestFeaturesAfterFeaturesOK(t *testing.T) {
	d := newDriver(t)
	if d.write("DriverFeatures", 1) {
		t.Error("features before DRIVER were accepted")
	}
	d.negotiate(virtio.FeatureVersion1)
	d.must("DriverFeaturesSel", 0)
	if d.write("DriverFeatures", uint32(virtio.FeatureEventIdx)) {
		t.Error("features after FEATURES_OK were accepted")
	}
}

func TestStatusOutOfOrder(t *testing.T) {
	for _, test := range []struct {
		name   string
		writes []uint32
		want   uint32
	}{
		{"driver without acknowledge", []uint32{statusDriver}, 0},
		{"DRIVER_OK at once", []uint32{statusDriverOK}, 0},
		{"everything at once", []uint32{0xff &^ statusFailed}, statusAcknowledge | statusDriver},
		{"FEATURES_OK skipped", []uint32{1, 3, 7}, 3},
		{"bits cleared", []uint32{1, 3, 1}, 3},
		{"undefined bits", []uint32{1, 3, 0x10 | 3, 0xffff_ff00 | 3}, 3},
		{"NEEDS_RESET by the driver", []uint32{1, 3, 64 | 3}, 3},
		{"failed", []uint32{1, 3, 128 | 3}, 128 | 3},
	} {
		d := newDriver(t)
		for _, v := range test.writes {
			d.write("Status", v)
		}
		if got := d.read("Status"); got != test.want {
			t.Errorf("%s: status %#x, want %#x", test.name, got, test.want)
		}
		if len(d.dev.activations) != 0 {
			t.Errorf("%s: device was activated", test.name)
		}
	}
}

func TestDriverOKWithoutQueue(t *testing.T) {
	d := newDriver(t)
	d.negotiate(virtio.TransportFeatures)
	d.must("Status", running)
	if s := d.read("Status"); s != running|statusNeedsReset || len(d.dev.activations) != 0 {
		t.Errorf("status %#x, %d activations", s, len(d.dev.activations))
	}
}

func TestDriverOKTwice(t *testing.T) {
	d := newDriver(t)
	d.start()
	d.must("Status", running)
	if len(d.dev.activations) != 1 {
		t.Errorf("%d activations", len(d.dev.activations))
	}
}

func TestThousandResets(t *testing.T) {
	d := newDriver(t)
	for range 1000 {
		d.start()
		d.must("QueueNotify", 1)
		<-d.dev.kicked
		d.must("Status", 0)
	}
	if len(d.dev.activations) != 1000 || d.dev.resets != 1000 {
		t.Errorf("%d activations, %d resets", len(d.dev.activations), d.dev.resets)
	}
}

// A storm of notifications and register accesses from every vCPU while one of
// them changes the status.
func TestStormDuringStatusChanges(t *testing.T) {
	d := newDriver(t)
	stop := make(chan struct{})
	var storm sync.WaitGroup
	for i := range 3 {
		storm.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				d.reg.Write(offsetNotify, []byte{byte(i), 0, 0, 0})
				d.reg.Kicks()[i%2].Ring()
				d.reg.Write(0x064, []byte{3, 0, 0, 0})
				d.reg.Read(0x070, make([]byte, 4))
				d.reg.ConfigChanged()
			}
		})
	}
	drained := make(chan struct{})
	go func() {
		for range d.dev.kicked {
		}
		close(drained)
	}()
	d.crowded = true
	for range 200 {
		d.must("Status", 0)
		d.start()
		d.dev.last().Fail(virtio.ErrDevice)
	}
	close(stop)
	storm.Wait()
	d.reg.Close()
	close(d.dev.kicked)
	<-drained
	if len(d.dev.activations) != 200 {
		t.Errorf("%d activations, want 200", len(d.dev.activations))
	}
}

// Bus.

func TestOddAccessesToRegisters(t *testing.T) {
	d := newDriver(t)
	d.start()
	before := d.reg.Refused()
	n := uint64(0)
	for off := uint64(0); off < offsetConfig; off++ {
		for _, width := range []int{1, 2, 3, 4, 8} {
			if width == 4 && off%4 == 0 {
				continue
			}
			p := bytes.Repeat([]byte{0xa5}, width)
			d.reg.Read(off, p)
			if !bytes.Equal(p, make([]byte, width)) {
				t.Fatalf("%d bytes at %#x read %x, want zeros", width, off, p)
			}
			d.reg.Write(off, p)
			n += 2
		}
	}
	if got := d.reg.Refused() - before; got != n {
		t.Errorf("%d accesses were counted, want %d", got, n)
	}
	if s := d.read("Status"); s != running {
		t.Errorf("status %#x", s)
	}
}

func TestUndefinedAndOneWayRegisters(t *testing.T) {
	d := newDriver(t)
	for off := uint64(0); off < offsetConfig; off += 4 {
		r := registerAt[off/4]
		p := []byte{1, 0, 0, 0}
		before := d.reg.Refused()
		if r == nil || r.write == nil {
			if d.reg.Write(off, p); d.reg.Refused() != before+1 {
				t.Errorf("write at %#x was not counted", off)
			}
		}
		before = d.reg.Refused()
		if r == nil || r.read == nil {
			if d.reg.Read(off, p); d.reg.Refused() != before+1 || p[0] != 0 {
				t.Errorf("read at %#x: %x, or not counted", off, p)
			}
		}
	}
}

// FuzzRegisters lets a driver do anything: each three bytes are an access.
func FuzzRegisters(f *testing.F) {
	f.Add([]byte{0x70, 4, 1, 0x70, 4, 3, 0x24, 4, 1, 0x20, 4, 1, 0x70, 4, 11, 0x38, 4, 8, 0x44, 4, 1, 0x70, 4, 15})
	f.Add([]byte{0x70, 4, 15, 0x50, 4, 0, 0x64, 4, 255, 0x70, 4, 0, 0xff, 8, 1})
	f.Fuzz(func(t *testing.T, script []byte) {
		d := newDriver(t)
		if len(script) > 0 && script[0]&1 == 0 {
			d.negotiate(virtio.TransportFeatures)
			d.ring(0)
		}
		stop := make(chan struct{})
		go func() {
			for {
				select {
				case <-d.dev.kicked:
				case <-stop:
					return
				}
			}
		}()
		for ; len(script) >= 3; script = script[3:] {
			off, width, v := uint64(script[0]), int(script[1]&7)+1, script[2]
			if script[1]&8 != 0 {
				off += offsetConfig - 8
			}
			p := make([]byte, width)
			p[0] = v
			if script[1]&16 != 0 {
				p[width-1] = v
			}
			d.reg.Write(off, p)
			d.reg.Read(off, p)
		}
		d.reg.Close()
		close(stop)
		if d.dev.active {
			t.Error("device is active after Close")
		}
	})
}
