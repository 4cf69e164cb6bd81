// Package virtio defines what a device is, apart from how it is reached.
//
// A Device speaks virtio 1.2 over split rings. A transport (virtio-mmio on the
// embedded VMM, vhost-user for a foreign one) negotiates with the driver and
// activates the device with the rings that resulted. Devices never know their
// transport; transports never know their device's kind.
package virtio

import (
	"errors"

	"github.com/microvm/microvm/vmm/guestmem"
)

// DeviceID is a virtio device type (virtio 1.2, section 5).
type DeviceID uint32

// Device types in use.
const (
	DeviceNet     DeviceID = 1
	DeviceBlock   DeviceID = 2
	DeviceConsole DeviceID = 3
	DeviceEntropy DeviceID = 4
	DeviceVsock   DeviceID = 19
	DeviceFS      DeviceID = 26
)

// Feature bits that belong to transport and rings (virtio 1.2, section 6).
// Transports offer them for every device; devices leave them out of Features.
const (
	FeatureIndirectDesc uint64 = 1 << 28 // VIRTIO_F_INDIRECT_DESC
	FeatureEventIdx     uint64 = 1 << 29 // VIRTIO_F_EVENT_IDX
	FeatureVersion1     uint64 = 1 << 32 // VIRTIO_F_VERSION_1
)

// TransportFeatures is what every transport offers besides the device's own
// features.
const TransportFeatures = FeatureIndirectDesc | FeatureEventIdx | FeatureVersion1

// ErrDevice is wrapped by every error that a broken driver causes, as opposed
// to a fault of the host.
var ErrDevice = errors.New("driver broke the protocol")

// Device is one virtio device.
//
// Call order: ID, Features, QueueSizes, ReadConfig and WriteConfig at any
// time; then Activate, Reset, Activate, Reset, ... in turn. Transports call
// one method at a time, except ReadConfig and WriteConfig, which may run
// beside the device's own goroutines.
type Device interface {
	// ID is the device type.
	ID() DeviceID
	// Features are the device-specific bits offered to the driver.
	Features() uint64
	// QueueSizes gives the largest size of each queue, a power of two.
	QueueSizes() []uint16
	// ReadConfig copies configuration space from offset into p; what lies
	// past the end reads as zero.
	ReadConfig(offset uint32, p []byte)
	// WriteConfig stores p at offset; what is read-only or past the end is
	// ignored.
	WriteConfig(offset uint32, p []byte)
	// Activate starts the device on the rings of a. Every queue may already
	// hold buffers whose kick was lost: the device looks once unasked.
	Activate(a Activation) error
	// Reset stops what Activate started and returns when no goroutine of the
	// device touches guest memory or rings any more. It may be called on a
	// device that is not active.
	Reset()
}

// Activation is what a device gets when the driver sets DRIVER_OK.
type Activation struct {
	// Memory is the guest's memory; valid until Reset returns.
	Memory *guestmem.Memory
	// Features are the negotiated bits, transport bits included.
	Features uint64
	// Queues are the rings in order of their index. A queue that the driver
	// left disabled is nil; some transports keep trailing queues to
	// themselves, so the slice may be shorter than QueueSizes.
	Queues []*Queue
	// Fail reports a broken ring or a device that can't go on: the transport
	// sets DEVICE_NEEDS_RESET and tells the driver. It may be called from any
	// goroutine and more than once.
	Fail func(error)
}

// Queue returns queue i, or nil when the driver did not enable it.
func (a *Activation) Queue(i int) *Queue {
	if i < 0 || i >= len(a.Queues) {
		return nil
	}
	return a.Queues[i]
}
