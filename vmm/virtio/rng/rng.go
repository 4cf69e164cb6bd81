// Package rng is the virtio entropy device (virtio 1.2, section 5.4): one
// queue, whose buffers it fills from the host's random number generator.
package rng

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/queue"
)

const (
	// queueSize is ample: the driver keeps one buffer in flight.
	queueSize = 8
	// MaxRequest bounds the work for one buffer, in bytes. A larger buffer is
	// answered in part, which section 5.4.6.1 allows.
	MaxRequest = 64 << 10
)

// Device is an entropy device.
type Device struct {
	worker virtio.Worker
}

var _ virtio.Device = (*Device)(nil)

// New makes an entropy device.
func New() *Device { return &Device{} }

// ID is DeviceEntropy.
func (d *Device) ID() virtio.DeviceID { return virtio.DeviceEntropy }

// Features are none (section 5.4.3).
func (d *Device) Features() uint64 { return 0 }

// QueueSizes gives the one queue, requestq.
func (d *Device) QueueSizes() []uint16 { return []uint16{queueSize} }

// ReadConfig reads zeros: there is no configuration (section 5.4.4).
func (d *Device) ReadConfig(_ uint32, p []byte) { clear(p) }

// WriteConfig does nothing.
func (d *Device) WriteConfig(uint32, []byte) {}

// Activate starts answering requests. Without a queue it does nothing.
func (d *Device) Activate(a virtio.Activation) error {
	q := a.Queue(0)
	if q == nil {
		return nil
	}
	d.worker.Start(q, answer, func(err error) { a.Fail(fmt.Errorf("serve entropy queue: %w", err)) })
	return nil
}

// Reset stops answering.
func (d *Device) Reset() { d.worker.Stop() }

func answer(c *queue.Chain) (uint32, error) {
	n, err := fill(c.Writable)
	return uint32(n), err
}

// fill writes random bytes to bufs, MaxRequest at most, and returns how many.
func fill(bufs [][]byte) (int, error) {
	n := 0
	for _, b := range bufs {
		b = b[:min(len(b), MaxRequest-n)]
		for len(b) > 0 {
			got, err := unix.Getrandom(b, 0)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return n, fmt.Errorf("get random bytes: %w", err)
			}
			b, n = b[got:], n+got
		}
	}
	return n, nil
}
