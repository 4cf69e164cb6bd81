package net

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/microvm/microvm/vmm/virtio"
)

// pump moves frames both ways between a file and the rings, each way on a
// thread of its own, which blocks in the kernel: it is woken by what it waits for
// and by nothing else.
type pump struct {
	fd int
	// skip is the part of the header that the file does not carry: all of it
	// or nothing.
	skip    int
	rx      receiver
	tx      sender
	froms   []Address       // the guest may send from, if there are any
	fail    func(error)     // the rings are broken
	warn    func(error)     // the file is
	quit    *virtio.EventFD // rung when it is stopped
	stopped atomic.Bool
	running sync.WaitGroup
}

// newPump makes the pump of pair i.
func newPump(d *Device, i int) (*pump, error) {
	quit, err := virtio.NewEventFD()
	if err != nil {
		return nil, err
	}
	p := &pump{fd: d.files.all[i].fd, fail: d.active.Fail, warn: d.config.Warn, froms: d.froms, quit: quit}
	if !d.config.Tap {
		p.skip = headerSize
	}
	p.rx = receiver{
		pump: p, waiter: virtio.NewWaiter(quit), queue: d.active.Queue(queuesOfPair*i + queueRx), counts: &d.counts.rx, pace: pacer{rate: d.config.Receive},
		mergeable: d.active.Features&featureMrgRxbuf != 0,
	}
	p.tx = sender{
		pump: p, waiter: virtio.NewWaiter(quit), queue: d.active.Queue(queuesOfPair*i + queueTx), counts: &d.counts.tx, pace: pacer{rate: d.config.Send}, foreign: &d.counts.foreign,
	}
	return p, nil
}

func (p *pump) start() {
	p.running.Go(func() { p.end("receive", p.rx.run()) })
	p.running.Go(func() { p.end("send", p.tx.run()) })
}

// fileError is a fault of the file, not of the driver.
type fileError struct{ error }

func (e fileError) Unwrap() error { return e.error }

// end tells of err, with which a direction ended.
func (p *pump) end(what string, err error) {
	var file fileError
	switch {
	case err == nil || errors.Is(err, virtio.ErrStopped):
	case errors.As(err, &file):
		p.warn(fmt.Errorf("network stands still: %s frames: %w", what, err))
	default:
		p.fail(fmt.Errorf("%s frames: %w", what, err))
	}
}

// pause waits until the next frame may be moved, after the driver was told of
// those before.
func pause(w *virtio.Waiter, pace *pacer, q *virtio.Queue) error {
	d := pace.wait()
	if d <= 0 {
		return nil
	}
	q.Notify()
	return w.Sleep(d)
}

// stop returns when neither rings nor file are used any more.
func (p *pump) stop() {
	p.stopped.Store(true)
	p.quit.Ring()
	p.running.Wait()
	p.rx.release()
	_ = p.quit.Close()
}
