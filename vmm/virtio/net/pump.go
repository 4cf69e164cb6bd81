package net

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/microvm/microvm/vmm/virtio"
)

// errStopped ends a direction that was told to stop.
var errStopped = errors.New("pump was stopped")

// pump moves frames both ways between a file and the rings, each way on a
// goroutine of its own.
type pump struct {
	file *os.File
	raw  syscall.RawConn
	// skip is the part of the header that the file does not carry: all of it
	// or nothing.
	skip    int
	rx      receiver
	tx      sender
	froms   []Address   // the guest may send from, if there are any
	fail    func(error) // the rings are broken
	warn    func(error) // the file is
	stopped atomic.Bool
	quit    chan struct{} // closed when it is stopped
	running sync.WaitGroup
}

func newPump(d *Device) (*pump, error) {
	raw, err := d.file.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("open network file: %w", err)
	}
	p := &pump{file: d.file, raw: raw, fail: d.active.Fail, warn: d.config.Warn, froms: d.froms, quit: make(chan struct{})}
	if !d.config.Tap {
		p.skip = headerSize
	}
	p.rx = receiver{
		pump: p, queue: d.active.Queue(queueRx), counts: &d.counts.rx, pace: pacer{rate: d.config.Receive},
		mergeable: d.active.Features&featureMrgRxbuf != 0,
	}
	p.tx = sender{
		pump: p, queue: d.active.Queue(queueTx), counts: &d.counts.tx, pace: pacer{rate: d.config.Send}, foreign: &d.counts.foreign,
	}
	p.rx.read, p.tx.try = p.rx.readSome, p.tx.writeSome
	return p, nil
}

func (p *pump) start() {
	for _, q := range []*virtio.Queue{p.rx.queue, p.tx.queue} {
		q.Kick.Restart()
	}
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
	case err == nil || errors.Is(err, errStopped) || errors.Is(err, os.ErrDeadlineExceeded) && p.stopped.Load():
	case errors.As(err, &file):
		p.warn(fmt.Errorf("network stands still: %s frames: %w", what, err))
	default:
		p.fail(fmt.Errorf("%s frames: %w", what, err))
	}
}

// pause waits until the next frame may be moved, after the driver was told of
// those before. It returns false when the pump is stopped first.
func (p *pump) pause(pace *pacer, q *virtio.Queue) bool {
	d := pace.wait()
	if d <= 0 {
		return true
	}
	q.Notify()
	select {
	case <-time.After(d):
		return true
	case <-p.quit:
		return false
	}
}

// stop returns when neither rings nor file are used any more.
func (p *pump) stop() {
	p.stopped.Store(true)
	close(p.quit)
	p.rx.queue.Kick.Stop()
	p.tx.queue.Kick.Stop()
	_ = p.file.SetDeadline(time.Unix(1, 0))
	p.running.Wait()
	p.rx.release()
	_ = p.file.SetDeadline(time.Time{})
}
