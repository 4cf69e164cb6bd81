// Package blk is the virtio block device (virtio 1.2, section 5.2): one queue,
// whose requests go to files or block devices of the host. The content is that of
// the disks, byte for byte: no format is ever looked for in it.
//
// One device has all disks of a guest: they may be more than a machine has slots
// for devices, and come and go while the guest runs. Disk n has the sectors from
// n*Stride on, and sector n is its label, by which the guest knows it. Where there
// is neither, requests fail.
package blk

import (
	"encoding/binary"
	"errors"
	"sync"

	"github.com/microvm/microvm/vmm/virtio"
)

const (
	queueSize  = 128
	sectorSize = 512
	// workers is how many requests are served at once, each of which may hold
	// a thread.
	workers = 16
	// maxRange bounds a request to discard or to write zeroes, in sectors.
	maxRange = 1 << 22
)

// MaxDisks is how many disks a device can have: as many as Linux knows partitions
// of one.
const MaxDisks = 255

// Stride is the distance of the disks' first sectors, and the most sectors that a
// disk can have: all of them together stay below what an offset can count.
const Stride uint64 = 1 << 45

// capacity is the device's, in sectors.
const capacity = (MaxDisks + 1) * Stride

// LabelSize is the room for a disk's label, in bytes.
const LabelSize = sectorSize

// serial is the device's own, by which the guest finds it (section 5.2.6).
const (
	serial     = "disks"
	serialSize = 20 // the room for one, in bytes
)

// Feature bits (section 5.2.3).
const (
	featureSegMax      uint64 = 1 << 2  // VIRTIO_BLK_F_SEG_MAX
	featureBlkSize     uint64 = 1 << 6  // VIRTIO_BLK_F_BLK_SIZE
	featureFlush       uint64 = 1 << 9  // VIRTIO_BLK_F_FLUSH
	featureDiscard     uint64 = 1 << 13 // VIRTIO_BLK_F_DISCARD
	featureWriteZeroes uint64 = 1 << 14 // VIRTIO_BLK_F_WRITE_ZEROES
)

// Device is a block device.
type Device struct {
	config []byte
	run    *run // between Activate and Reset

	mu    sync.Mutex
	disks [MaxDisks + 1]*disk // the first stays nil
}

var _ virtio.Device = (*Device)(nil)

// New makes a block device without disks.
func New() *Device { return &Device{config: newConfig()} }

// newConfig is struct virtio_blk_config (section 5.2.4).
func newConfig() []byte {
	c := make([]byte, 60)
	put32 := func(at int, v uint32) { binary.LittleEndian.PutUint32(c[at:], v) }
	binary.LittleEndian.PutUint64(c, capacity)
	put32(12, queueSize-2) // seg_max: all but header and status
	put32(20, sectorSize)  // blk_size
	put32(36, maxRange)    // max_discard_sectors
	put32(40, 1)           // max_discard_seg
	put32(44, 8)           // discard_sector_alignment
	put32(48, maxRange)    // max_write_zeroes_sectors
	put32(52, 1)           // max_write_zeroes_seg
	c[56] = 1              // write_zeroes_may_unmap
	return c
}

// ID is DeviceBlock.
func (d *Device) ID() virtio.DeviceID { return virtio.DeviceBlock }

// Features say what may be asked of the disks. Which are read-only, their labels
// may say.
func (d *Device) Features() uint64 {
	return featureSegMax | featureBlkSize | featureFlush | featureDiscard | featureWriteZeroes
}

// QueueSizes gives the one queue, requestq1.
func (d *Device) QueueSizes() []uint16 { return []uint16{queueSize} }

// ReadConfig implements [virtio.Device].
func (d *Device) ReadConfig(offset uint32, p []byte) {
	virtio.ReadSpace(d.config, offset, p)
}

// WriteConfig does nothing: there is no cache to switch off.
func (d *Device) WriteConfig(uint32, []byte) {}

// Activate starts serving requests. Without a queue it does nothing.
func (d *Device) Activate(a virtio.Activation) error {
	if d.run != nil {
		return errors.New("activate block device: active already")
	}
	if q := a.Queue(0); q != nil {
		d.run = start(d, q, a.Fail)
	}
	return nil
}

// Reset stops serving; requests under way are finished.
func (d *Device) Reset() {
	if d.run != nil {
		d.run.stop()
		d.run = nil
	}
}
