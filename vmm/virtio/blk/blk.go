// Package blk is the virtio block device (virtio 1.2, section 5.2): one queue,
// whose requests go to a file or a block device of the host. The content is
// that of the disk, byte for byte: no format is ever looked for in it.
package blk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm/virtio"
)

const (
	queueSize  = 128
	sectorSize = 512
	// serialSize is the room for a serial (section 5.2.6), in bytes.
	serialSize = 20
	// workers is how many requests are served at once, each of which may hold
	// a thread.
	workers = 8
	// maxRange bounds a request to discard or to write zeroes, in sectors.
	maxRange = 1 << 22
)

// Feature bits (section 5.2.3).
const (
	featureSegMax      uint64 = 1 << 2  // VIRTIO_BLK_F_SEG_MAX
	featureRO          uint64 = 1 << 5  // VIRTIO_BLK_F_RO
	featureBlkSize     uint64 = 1 << 6  // VIRTIO_BLK_F_BLK_SIZE
	featureFlush       uint64 = 1 << 9  // VIRTIO_BLK_F_FLUSH
	featureDiscard     uint64 = 1 << 13 // VIRTIO_BLK_F_DISCARD
	featureWriteZeroes uint64 = 1 << 14 // VIRTIO_BLK_F_WRITE_ZEROES
)

// Disk is what a device is made of.
type Disk struct {
	// File is a regular file or a block device, open for reading and, unless
	// ReadOnly, for writing.
	File *os.File
	// ReadOnly refuses every change.
	ReadOnly bool
	// Serial is what the guest knows the disk by, 20 bytes at most.
	Serial string
}

// Device is a block device.
type Device struct {
	disk    Disk
	sectors uint64 // of sectorSize, whatever the block size
	config  []byte
	run     *run // between Activate and Reset
}

var _ virtio.Device = (*Device)(nil)

// New makes a block device of disk, whose file becomes the device's. Bytes
// behind the last full block are not seen.
func New(disk Disk) (*Device, error) {
	size, err := sizeOf(disk.File)
	if err != nil {
		return nil, fmt.Errorf("size of disk %s: %w", disk.Serial, err)
	}
	if len(disk.Serial) > serialSize {
		return nil, fmt.Errorf("serial %q of a disk has more than %d bytes", disk.Serial, serialSize)
	}
	block, err := blockSize(disk.File)
	if err != nil {
		return nil, fmt.Errorf("block size of disk %s: %w", disk.Serial, err)
	}
	d := &Device{disk: disk, sectors: size / block * (block / sectorSize)}
	d.config = d.newConfig(uint32(block))
	return d, nil
}

// sizeOf is f's size in bytes.
func sizeOf(f *os.File) (uint64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return uint64(info.Size()), nil
	case mode&os.ModeDevice == 0 || mode&os.ModeCharDevice != 0:
		return 0, errors.New("neither a regular file nor a block device")
	}
	// A block device tells its size by where it ends.
	end, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_END)
	return uint64(end), err
}

// blockSize is the least that f can clear at once, in bytes: what a block device
// calls its logical block size.
func blockSize(f *os.File) (uint64, error) {
	n, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET)
	if errors.Is(err, unix.ENOTTY) {
		return sectorSize, nil // a regular file
	}
	return max(uint64(n), sectorSize), err
}

// newConfig is struct virtio_blk_config (section 5.2.4).
func (d *Device) newConfig(block uint32) []byte {
	c := make([]byte, 60)
	put32 := func(at int, v uint32) { binary.LittleEndian.PutUint32(c[at:], v) }
	binary.LittleEndian.PutUint64(c, d.sectors)
	put32(12, queueSize-2)              // seg_max: all but header and status
	put32(20, block)                    // blk_size
	put32(36, maxRange)                 // max_discard_sectors
	put32(40, 1)                        // max_discard_seg
	put32(44, max(8, block/sectorSize)) // discard_sector_alignment
	put32(48, maxRange)                 // max_write_zeroes_sectors
	put32(52, 1)                        // max_write_zeroes_seg
	c[56] = 1                           // write_zeroes_may_unmap
	return c
}

// ID is DeviceBlock.
func (d *Device) ID() virtio.DeviceID { return virtio.DeviceBlock }

// Features say what may be asked of the disk.
func (d *Device) Features() uint64 {
	f := featureSegMax | featureBlkSize | featureFlush
	if d.disk.ReadOnly {
		return f | featureRO
	}
	return f | featureDiscard | featureWriteZeroes
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
