// Package net is the virtio network device (virtio 1.2, section 5.1) with one
// pair of queues.
//
// The device moves Ethernet frames between the rings and a file that it is
// given while it runs: a tap, whose frames carry struct virtio_net_hdr, or a
// datagram socket, whose frames are bare. Without a file it stands still.
//
// Frames are read into and written from guest memory itself. The device looks
// at no byte of them, but for the source address where Attach limits it: what the
// guest may send is for the network behind the file to decide, and the kernel
// checks the headers that a tap is given.
package net

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm/virtio"
)

// Feature bits (section 5.1.3).
const (
	featureCSUM      = 1 << 0
	featureGuestCSUM = 1 << 1
	featureMAC       = 1 << 5
	featureGuestTSO4 = 1 << 7
	featureGuestTSO6 = 1 << 8
	featureGuestECN  = 1 << 9
	featureHostTSO4  = 1 << 11
	featureHostTSO6  = 1 << 12
	featureHostECN   = 1 << 13
	featureMrgRxbuf  = 1 << 15

	offloads = featureCSUM | featureGuestCSUM | featureGuestTSO4 | featureGuestTSO6 | featureGuestECN |
		featureHostTSO4 | featureHostTSO6 | featureHostECN
)

// Queues in order of their index (section 5.1.2).
const (
	queueRx = iota
	queueTx
	queueCount

	// queueSize lets the driver post enough for several of the largest frames.
	queueSize = 256
)

// Address is an Ethernet address.
type Address [6]byte

// Config is what a device is made of.
type Config struct {
	// MAC is the address that the driver is told of.
	MAC [6]byte
	// Tap says that the files given to Attach are taps with IFF_VNET_HDR,
	// which take checksums and segmentation off the guest's hands. Otherwise
	// they are datagram sockets.
	Tap bool
	// Receive and Send limit what the guest gets and what it sends.
	Receive, Send Rate
	// Warn is told when a file goes bad, and of the first frame from a foreign
	// address; it must not block. Nil ignores it.
	Warn func(error)
}

// Device is a network device. Its methods that are not virtio.Device's may be
// called at any time from any goroutine.
type Device struct {
	config Config
	counts counters

	// mu guards all below.
	mu     sync.Mutex
	fd     int // of the file, -1 without one
	froms  []Address
	active *virtio.Activation // nil when not active
	pump   *pump              // runs while there are both
}

var _ virtio.Device = (*Device)(nil)

// New makes a device without a file.
func New(c Config) *Device {
	if c.Warn == nil {
		c.Warn = func(error) {}
	}
	return &Device{config: c, fd: -1}
}

// ID implements virtio.Device.
func (d *Device) ID() virtio.DeviceID { return virtio.DeviceNet }

// Features implements virtio.Device.
func (d *Device) Features() uint64 {
	if d.config.Tap {
		return featureMAC | featureMrgRxbuf | offloads
	}
	return featureMAC | featureMrgRxbuf
}

// QueueSizes implements virtio.Device.
func (d *Device) QueueSizes() []uint16 { return []uint16{queueRx: queueSize, queueTx: queueSize} }

// ReadConfig implements virtio.Device: of struct virtio_net_config only the
// address is there (section 5.1.4).
func (d *Device) ReadConfig(offset uint32, p []byte) {
	virtio.ReadSpace(d.config.MAC[:], offset, p)
}

// WriteConfig implements virtio.Device: the space is read-only.
func (d *Device) WriteConfig(uint32, []byte) {}

// Activate implements virtio.Device. Without one of the queues the device stands
// still: vhost-user front ends start them one after the other.
func (d *Device) Activate(a virtio.Activation) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.active != nil {
		return errors.New("activate net: active already")
	}
	d.active = &a
	return d.start()
}

// Reset implements virtio.Device. The file stays attached.
func (d *Device) Reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stop()
	d.active = nil
}

// Attach gives the device a copy of the file that its frames come from and go to,
// in place of any earlier one; it becomes non-blocking. With froms, frames from
// other addresses are dropped.
func (d *Device) Attach(f *os.File, froms ...Address) error {
	fd, err := duplicate(f)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	err = d.detach()
	d.fd, d.froms = fd, froms
	return errors.Join(err, d.start())
}

// duplicate makes a descriptor of f that Go's poller knows nothing of.
func duplicate(f *os.File) (fd int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("open network file: %w", err)
	}
	cerr := raw.Control(func(old uintptr) {
		if fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0); err != nil {
			err = fmt.Errorf("copy network file: %w", err)
			return
		}
		if err = unix.SetNonblock(fd, true); err != nil {
			unix.Close(fd)
			err = fmt.Errorf("set network file non-blocking: %w", err)
		}
	})
	return fd, errors.Join(cerr, err)
}

// Detach takes the file away and closes it. Without one it does nothing.
func (d *Device) Detach() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.detach()
}

func (d *Device) detach() error {
	d.stop()
	fd := d.fd
	d.fd = -1
	if fd < 0 {
		return nil
	}
	return unix.Close(fd)
}

// start moves frames if there are both a driver with its queues and a file.
func (d *Device) start() error {
	if d.active == nil || d.fd < 0 || d.active.Queue(queueRx) == nil || d.active.Queue(queueTx) == nil {
		return nil
	}
	if d.config.Tap {
		if err := setUpTap(d.fd, d.active.Features); err != nil {
			return err
		}
	}
	p, err := newPump(d)
	if err != nil {
		return err
	}
	d.pump = p
	p.start()
	return nil
}

func (d *Device) stop() {
	if d.pump != nil {
		d.pump.stop()
		d.pump = nil
	}
}

// Stats tells what was moved and dropped so far.
func (d *Device) Stats() Stats { return d.counts.stats() }
