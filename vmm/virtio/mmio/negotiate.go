package mmio

import (
	"errors"
	"fmt"

	"github.com/microvm/microvm/vmm/virtio"
)

// Bits of the device status (section 2.1).
const (
	statusAcknowledge = 1
	statusDriver      = 2
	statusDriverOK    = 4
	statusFeaturesOK  = 8
	statusNeedsReset  = 64 // DEVICE_NEEDS_RESET
	statusFailed      = 128
)

// steps is the order of section 3.1.1: bit may be set once all of after are.
// FAILED may be set at any time.
var steps = []struct{ bit, after uint32 }{
	{statusAcknowledge, 0},
	{statusDriver, statusAcknowledge},
	{statusFeaturesOK, statusAcknowledge | statusDriver},
	{statusDriverOK, statusAcknowledge | statusDriver | statusFeaturesOK},
	{statusFailed, 0},
}

func (t *Transport) readStatus() uint32 {
	t.faultMu.Lock()
	defer t.faultMu.Unlock()
	if t.broken {
		return t.status | statusNeedsReset
	}
	return t.status
}

// setStatus takes the driver's bits. Zero resets; otherwise bits are only
// added, each in its turn.
func (t *Transport) setStatus(v uint32) bool {
	if v == 0 {
		t.reset()
		return true
	}
	v &^= statusNeedsReset // the device's own; a driver writes back what it read
	if t.status&^v != 0 {
		return false
	}
	added := v &^ t.status
	for _, s := range steps {
		if added&s.bit == 0 {
			continue
		}
		if t.status&s.after != s.after || !t.enter(s.bit) {
			return false
		}
		t.status |= s.bit
		added &^= s.bit
	}
	return added == 0
}

// enter does what a status bit asks for, and says whether it may be set.
func (t *Transport) enter(bit uint32) bool {
	switch bit {
	case statusFeaturesOK:
		return t.driverFeatures&^t.features == 0 && t.driverFeatures&virtio.FeatureVersion1 != 0
	case statusDriverOK:
		return t.activate()
	default:
		return true
	}
}

func (t *Transport) deviceFeatures() uint32 {
	switch t.deviceSel {
	case 0:
		return uint32(t.features)
	case 1:
		return uint32(t.features >> 32)
	default:
		return 0
	}
}

// setDriverFeatures takes one half of the driver's choice, until FEATURES_OK.
func (t *Transport) setDriverFeatures(v uint32) bool {
	if t.status&statusDriver == 0 || t.status&statusFeaturesOK != 0 {
		return false
	}
	switch t.driverSel {
	case 0:
		t.driverFeatures = t.driverFeatures&^0xffff_ffff | uint64(v)
	case 1:
		t.driverFeatures = t.driverFeatures&0xffff_ffff | uint64(v)<<32
	default:
		return v == 0
	}
	return true
}

// errNoQueue refuses a driver that sets no queue up.
var errNoQueue = errors.New("driver has set up no queue")

// activate starts the device on the queues that are ready. A device that does
// not start says DEVICE_NEEDS_RESET.
func (t *Transport) activate() bool {
	a := virtio.Activation{Memory: t.mem, Features: t.driverFeatures}
	ready := 0
	for i := range t.queues {
		q := t.queues[i].activated(t)
		if q != nil {
			ready++
		}
		a.Queues = append(a.Queues, q)
	}
	t.faultMu.Lock()
	t.epoch++
	run := t.epoch
	t.faultMu.Unlock()
	a.Fail = func(err error) { t.fail(run, err) }
	if ready == 0 {
		t.fail(run, errNoQueue)
		return true
	}
	if err := t.dev.Activate(a); err != nil {
		t.fail(run, fmt.Errorf("activate device %d: %w", t.dev.ID(), err))
	}
	return true
}

// fail sets DEVICE_NEEDS_RESET and tells the driver, once per activation; run
// is the epoch that the activation began.
func (t *Transport) fail(run uint64, err error) {
	t.faultMu.Lock()
	first := t.epoch == run && !t.broken
	if first {
		t.broken = true
	}
	t.faultMu.Unlock()
	if !first {
		return // it is on record, or its activation is over
	}
	t.report(err)
	t.tellChange()
}

// reset puts everything back to the start, when the device has stopped.
func (t *Transport) reset() {
	if t.status&statusDriverOK != 0 {
		t.dev.Reset()
	}
	t.faultMu.Lock()
	t.epoch++
	t.broken = false
	t.faultMu.Unlock()
	t.status, t.driverFeatures = 0, 0
	t.deviceSel, t.driverSel, t.queueSel = 0, 0, 0
	for i := range t.queues {
		t.queues[i].clear()
	}
	t.changed.Store(false)
}
