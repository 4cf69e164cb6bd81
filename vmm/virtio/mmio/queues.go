package mmio

import (
	"fmt"

	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/queue"
)

// selected is the queue of QueueSel, or nil.
func (t *Transport) selected() *setup {
	if uint64(t.queueSel) >= uint64(len(t.queues)) {
		return nil
	}
	return &t.queues[t.queueSel]
}

func (t *Transport) queueMax() uint32 {
	if q := t.selected(); q != nil {
		return uint32(q.max)
	}
	return 0
}

func (t *Transport) queueReady() uint32 {
	if q := t.selected(); q != nil && q.ring != nil {
		return 1
	}
	return 0
}

// configureQueue changes the selected queue, which must not be ready, between
// FEATURES_OK and DRIVER_OK.
func (t *Transport) configureQueue(change func(*setup)) bool {
	q := t.selected()
	if q == nil || q.ring != nil || !t.settingUp() {
		return false
	}
	change(q)
	return true
}

// settingUp says that queues may be set up (section 3.1.1, step 7).
func (t *Transport) settingUp() bool {
	return t.status&(statusFeaturesOK|statusDriverOK) == statusFeaturesOK
}

func (t *Transport) setQueueNum(v uint32) bool {
	return t.configureQueue(func(q *setup) { q.num = v })
}

// setQueueReady checks the selected queue and makes it ready, or takes that
// back. A queue against the rules does not become ready.
func (t *Transport) setQueueReady(v uint32) bool {
	q := t.selected()
	if q == nil || !t.settingUp() || v > 1 {
		return false
	}
	if v == 0 {
		q.ring = nil
		return true
	}
	if q.ring != nil {
		return true
	}
	ring, err := t.open(q)
	if err != nil {
		t.report(fmt.Errorf("set up queue %d of device %d: %w", t.queueSel, t.dev.ID(), err))
		return false
	}
	q.ring = ring
	return true
}

func (t *Transport) open(q *setup) (*queue.Queue, error) {
	if q.num > uint32(q.max) {
		return nil, fmt.Errorf("%w: size %d is over %d", queue.ErrBroken, q.num, q.max)
	}
	return queue.New(t.mem, queue.Config{
		Size: uint16(q.num), Desc: q.desc, Avail: q.driver, Used: q.device,
		EventIdx: t.driverFeatures&virtio.FeatureEventIdx != 0,
		Indirect: t.driverFeatures&virtio.FeatureIndirectDesc != 0,
	})
}

// activated is the ring with its doorbells, or nil if it is not ready.
func (q *setup) activated(t *Transport) *virtio.Queue {
	if q.ring == nil {
		return nil
	}
	q.kick.Restart()
	return &virtio.Queue{Queue: q.ring, Kick: q.kick, Interrupt: t.irq.Ring}
}

func (q *setup) clear() {
	q.num, q.desc, q.driver, q.device, q.ring = 0, 0, 0, 0, nil
}

// notify kicks queue v, for a VMM that does not do it itself. Before DRIVER_OK
// there is nobody to hear it, and none is needed: a device looks once unasked.
func (t *Transport) notify(v uint32) bool {
	if t.status&statusDriverOK == 0 || uint64(v) >= uint64(len(t.queues)) || t.queues[v].ring == nil {
		return false
	}
	t.queues[v].kick.Ring()
	return true
}
