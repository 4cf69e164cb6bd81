package fs

import (
	"sync"
	"sync/atomic"

	"github.com/microvm/microvm/rootfs/export"
	"github.com/microvm/microvm/vmm/virtio"
)

// run is one activation of the device.
type run struct {
	server *export.Server
	fail   func(error)
	rings  []*ring
	// slots has room for the requests that are served apart from the leaders
	// of the rings.
	slots    chan struct{}
	stopping atomic.Bool
	quit     *virtio.EventFD // rung when it is stopped
	wg       sync.WaitGroup
}

// start serves the rings of a.
func start(server *export.Server, workers int, a virtio.Activation) (*run, error) {
	quit, err := virtio.NewEventFD()
	if err != nil {
		return nil, err
	}
	r := &run{server: server, fail: a.Fail, slots: make(chan struct{}, workers), quit: quit}
	for i, q := range a.Queues {
		if q == nil {
			continue
		}
		g := newRing(r, q, i == 0)
		r.rings = append(r.rings, g)
		r.wg.Add(1)
		go g.lead()
	}
	return r, nil
}

// stop ends the activation and waits for what is in flight.
func (r *run) stop() {
	r.stopping.Store(true)
	r.quit.Ring()
	r.server.Interrupt()
	r.wg.Wait()
	_ = r.quit.Close()
}

// takeSlot takes a slot if one is free; freeSlot gives it back.
func (r *run) takeSlot() bool {
	select {
	case r.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

func (r *run) freeSlot() { <-r.slots }
