// Package console is the virtio console device (virtio 1.2, section 5.3) with
// one port and no options. The guest's output goes to a writer; it gets no
// input.
package console

import (
	"fmt"
	"io"

	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/queue"
)

// Queues (section 5.3.2).
const (
	receiveq0  = 0
	transmitq0 = 1

	queueSize = 64
)

const (
	// MaxBuffer is how many bytes of one buffer are kept; the rest of it is
	// dropped.
	MaxBuffer = 64 << 10
	chunk     = 4 << 10
)

// Device is a console.
type Device struct {
	out    io.Writer
	worker virtio.Worker
}

var _ virtio.Device = (*Device)(nil)

// New makes a console that writes what the guest prints to out, in pieces of
// at most 4 KiB and from one goroutine at a time. Write must not block for
// long, as Reset waits for it; its errors are ignored. The guest can print
// without end: out has to be bounded.
func New(out io.Writer) *Device { return &Device{out: out} }

// ID is DeviceConsole.
func (d *Device) ID() virtio.DeviceID { return virtio.DeviceConsole }

// Features are none: no size, no further ports, no emergency write.
func (d *Device) Features() uint64 { return 0 }

// QueueSizes gives receiveq and transmitq of port 0.
func (d *Device) QueueSizes() []uint16 { return []uint16{receiveq0: queueSize, transmitq0: queueSize} }

// ReadConfig reads zeros: no field is valid without its feature (section
// 5.3.4).
func (d *Device) ReadConfig(_ uint32, p []byte) { clear(p) }

// WriteConfig does nothing.
func (d *Device) WriteConfig(uint32, []byte) {}

// Activate starts to take output. The input queue is left alone.
func (d *Device) Activate(a virtio.Activation) error {
	q := a.Queue(transmitq0)
	if q == nil {
		return nil
	}
	take := func(c *queue.Chain) (uint32, error) {
		d.print(c)
		return 0, nil
	}
	d.worker.Start(q, take, func(err error) { a.Fail(fmt.Errorf("serve console output queue: %w", err)) })
	return nil
}

// Reset stops taking output.
func (d *Device) Reset() { d.worker.Stop() }

// print copies before it writes, so that out never sees bytes that the guest
// still changes.
func (d *Device) print(c *queue.Chain) {
	var buf [chunk]byte
	for off := 0; off < MaxBuffer; {
		n := c.Read(buf[:min(chunk, MaxBuffer-off)], off)
		if n == 0 {
			return
		}
		_, _ = d.out.Write(buf[:n])
		off += n
	}
}
