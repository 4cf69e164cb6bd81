// Package net is the virtio network device (virtio 1.2, section 5.1) with one
// pair of queues or several.
//
// The device moves Ethernet frames between the rings and a file that it is
// given while it runs: a tap, whose frames carry struct virtio_net_hdr, or a
// datagram socket, whose frames are bare. Several pairs need a tap with as many
// queues, each of which is a file. Without a file it stands still.
//
// Frames are read into and written from guest memory itself. The device looks
// at no byte of them, but for the source address where Attach limits it: what the
// guest may send is for the network behind the file to decide, and the kernel
// checks the headers that a tap is given.
package net

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

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
	featureCtrlVQ    = 1 << 17
	featureMQ        = 1 << 22

	offloads = featureCSUM | featureGuestCSUM | featureGuestTSO4 | featureGuestTSO6 | featureGuestECN |
		featureHostTSO4 | featureHostTSO6 | featureHostECN
)

// Queues of a pair in order of their index (section 5.1.2).
const (
	queueRx = iota
	queueTx
	queuesOfPair

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
	// Pairs is how many pairs of queues there are: one if 0, and at most one
	// without Tap or with a rate.
	Pairs int
	// Receive and Send limit what the guest gets and what it sends.
	Receive, Send Rate
	// Warn is told when a file goes bad, and of the first frame from a foreign
	// address; it must not block. Nil ignores it.
	Warn func(error)
}

// Device is a network device. Its methods that are not virtio.Device's may be
// called at any time from any goroutine.
type Device struct {
	config  Config
	counts  counters
	control virtio.Worker // answers the driver's commands

	// mu guards all below.
	mu     sync.Mutex
	files  files
	froms  []Address
	active *virtio.Activation // nil when not active
	wanted int                // pairs that the driver uses, while active
	pumps  []*pump            // run while there are both, one for each pair
}

var _ virtio.Device = (*Device)(nil)

// New makes a device without a file.
func New(c Config) *Device {
	if c.Warn == nil {
		c.Warn = func(error) {}
	}
	if c.Pairs < 1 || !c.Tap || c.Receive != (Rate{}) || c.Send != (Rate{}) {
		c.Pairs = 1
	}
	return &Device{config: c}
}

// ID implements virtio.Device.
func (d *Device) ID() virtio.DeviceID { return virtio.DeviceNet }

// Features implements virtio.Device.
func (d *Device) Features() uint64 {
	features := uint64(featureMAC | featureMrgRxbuf)
	if d.config.Tap {
		features |= offloads
	}
	if d.config.Pairs > 1 {
		features |= featureCtrlVQ | featureMQ
	}
	return features
}

// QueueSizes implements virtio.Device.
func (d *Device) QueueSizes() []uint16 {
	sizes := slices.Repeat([]uint16{queueSize}, queuesOfPair*d.config.Pairs)
	if d.config.Pairs > 1 {
		sizes = append(sizes, controlSize)
	}
	return sizes
}

// ReadConfig implements virtio.Device: of struct virtio_net_config the address is
// there and, if there are several, the number of pairs (section 5.1.4).
func (d *Device) ReadConfig(offset uint32, p []byte) {
	space := d.config.MAC[:]
	if d.config.Pairs > 1 {
		const status = 2
		space = binary.LittleEndian.AppendUint16(append(space[:len(space):len(space)], make([]byte, status)...), uint16(d.config.Pairs))
	}
	virtio.ReadSpace(space, offset, p)
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
	d.active, d.wanted = &a, d.config.Pairs
	if q := d.controlQueue(); q != nil {
		d.wanted = 1 // until the driver says more (section 5.1.6.5.5)
		d.control.Start(q, d.answer, a.Fail)
	}
	return d.settle()
}

// Reset implements virtio.Device. The file stays attached.
func (d *Device) Reset() {
	d.control.Stop() // not with mu, which it takes
	d.mu.Lock()
	defer d.mu.Unlock()
	d.active = nil
	d.stop(0)
}

// Attach gives the device copies of the files that its frames come from and go to,
// in place of any earlier ones; they become non-blocking. Of a tap they are its
// queues, at most one for each pair. With froms, frames from other addresses are
// dropped.
func (d *Device) Attach(from []*os.File, froms ...Address) error {
	if len(from) == 0 || len(from) > d.config.Pairs {
		return fmt.Errorf("attach %d files to a network device with %d pairs of queues", len(from), d.config.Pairs)
	}
	all, err := duplicateAll(from)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	err = d.detach()
	d.files.all, d.froms = all, froms
	return errors.Join(err, d.settle())
}

// Detach takes the files away and closes them. Without any it does nothing.
func (d *Device) Detach() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.detach()
}

func (d *Device) detach() error {
	d.stop(0)
	return d.files.close()
}

// settle has frames moved for as many pairs as have rings and a file and are used by
// the driver.
func (d *Device) settle() error {
	n := d.usable()
	d.stop(n)
	if n == 0 {
		return nil
	}
	if d.config.Tap && len(d.pumps) == 0 {
		if err := d.files.setUp(d.active.Features); err != nil {
			return err
		}
	}
	if err := d.files.use(n); err != nil {
		return err
	}
	for i := len(d.pumps); i < n; i++ {
		p, err := newPump(d, i)
		if err != nil {
			return err
		}
		d.pumps = append(d.pumps, p)
		p.start()
	}
	return nil
}

// usable counts the first pairs that have all that they need.
func (d *Device) usable() (n int) {
	if d.active == nil {
		return 0
	}
	for n < min(d.wanted, len(d.files.all)) && d.active.Queue(queuesOfPair*n+queueRx) != nil && d.active.Queue(queuesOfPair*n+queueTx) != nil {
		n++
	}
	return n
}

// stop ends all pumps but the first n.
func (d *Device) stop(n int) {
	for len(d.pumps) > n {
		last := len(d.pumps) - 1
		d.pumps[last].stop()
		d.pumps = d.pumps[:last]
	}
}

// Stats tells what was moved and dropped so far.
func (d *Device) Stats() Stats { return d.counts.stats() }
