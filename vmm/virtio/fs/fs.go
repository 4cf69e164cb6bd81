// Package fs is the virtio file-system device (virtio 1.2, section 5.11): FUSE
// requests on rings. What they do is the business of rootfs/export; this
// package moves them and bounds the number of threads that they hold.
package fs

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/microvm/microvm/rootfs/export"
	"github.com/microvm/microvm/vmm/virtio"
)

// Limits of the configuration.
const (
	tagSize   = 36 // struct virtio_fs_config.tag
	queueSize = 1024
	maxQueues = 64
)

// Options configure the device.
type Options struct {
	// Tag is the name that the guest mounts, 1 to 36 bytes.
	Tag string
	// RequestQueues is the number of queues besides the one of high
	// priority; 0 means 1.
	RequestQueues int
	// Workers is how many requests are served at once, each of which may
	// hold a thread; 0 means 64.
	Workers int
}

// Device is the device's side.
type Device struct {
	server  *export.Server
	config  []byte
	queues  int
	workers int
	run     *run // between Activate and Reset
}

// New returns a device that serves the exports of server, which stays the
// caller's. One server serves one device.
func New(server *export.Server, o Options) (*Device, error) {
	if o.RequestQueues == 0 {
		o.RequestQueues = 1
	}
	if o.Workers == 0 {
		o.Workers = 64
	}
	if len(o.Tag) == 0 || len(o.Tag) > tagSize {
		return nil, fmt.Errorf("create fs device: tag %q, want 1 to %d bytes", o.Tag, tagSize)
	}
	if o.RequestQueues < 0 || o.RequestQueues > maxQueues || o.Workers < 0 {
		return nil, fmt.Errorf("create fs device: %d queues and %d workers", o.RequestQueues, o.Workers)
	}
	config := make([]byte, tagSize+4)
	copy(config, o.Tag)
	binary.LittleEndian.PutUint32(config[tagSize:], uint32(o.RequestQueues))
	return &Device{server: server, config: config, queues: o.RequestQueues, workers: o.Workers}, nil
}

// ID implements virtio.Device.
func (d *Device) ID() virtio.DeviceID { return virtio.DeviceFS }

// Features implements virtio.Device: none, as there are no notifications.
func (d *Device) Features() uint64 { return 0 }

// QueueSizes implements virtio.Device: the queue of high priority, then the
// request queues.
func (d *Device) QueueSizes() []uint16 {
	sizes := make([]uint16, 1+d.queues)
	for i := range sizes {
		sizes[i] = queueSize
	}
	return sizes
}

// ReadConfig implements virtio.Device.
func (d *Device) ReadConfig(offset uint32, p []byte) {
	virtio.ReadSpace(d.config, offset, p)
}

// WriteConfig implements virtio.Device: nothing can be written.
func (d *Device) WriteConfig(uint32, []byte) {}

// Activate implements virtio.Device.
func (d *Device) Activate(a virtio.Activation) error {
	if d.run != nil {
		return errors.New("activate fs device: active already")
	}
	r, err := start(d.server, d.workers, a)
	if err != nil {
		return fmt.Errorf("activate fs device: %w", err)
	}
	d.run = r
	return nil
}

// Reset implements virtio.Device. It waits for requests in flight, except
// those that wait for a lock, which it interrupts.
func (d *Device) Reset() {
	if d.run == nil {
		return
	}
	d.run.stop()
	d.run = nil
	d.server.Reset()
}
