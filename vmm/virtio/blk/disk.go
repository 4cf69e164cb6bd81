package blk

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Disk is one of a device's disks.
type Disk struct {
	// Name is for Remove and for errors.
	Name string
	// File is a regular file or a block device, open for reading and, unless
	// ReadOnly, for writing.
	File *os.File
	// ReadOnly refuses every change.
	ReadOnly bool
	// Label is what the guest can read about the disk, up to LabelSize bytes.
	Label []byte
}

// disk is a Disk in its place.
type disk struct {
	Disk
	sectors uint64
	users   int // the device and requests under way; under the device's mu
	// dirty says that something written may not be on the medium yet. A flush
	// holds flushing until it is.
	dirty    atomic.Bool
	flushing sync.Mutex
}

// Add shows the guest one more disk, whose file becomes the device's. Bytes
// behind the last full sector are not seen.
func (d *Device) Add(new Disk) error {
	size, err := sizeOf(new.File)
	if err != nil {
		return fmt.Errorf("size of disk %s: %w", new.Name, err)
	}
	sectors := size / sectorSize
	if sectors == 0 || sectors > Stride {
		return fmt.Errorf("disk %s has %d bytes: a disk has at least a sector of %d, and up to 2^45 of them", new.Name, size, sectorSize)
	}
	if len(new.Label) > LabelSize {
		return fmt.Errorf("label of disk %s has %d bytes, %d is the most", new.Name, len(new.Label), LabelSize)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	free := 0
	for n := MaxDisks; n > 0; n-- {
		switch k := d.disks[n]; {
		case k == nil:
			free = n
		case k.Name == new.Name:
			return fmt.Errorf("disk %s exists already", new.Name)
		}
	}
	if free == 0 {
		return fmt.Errorf("disk %s: the machine has %d disks already, which is the most", new.Name, MaxDisks)
	}
	d.disks[free] = &disk{Disk: new, sectors: sectors, users: 1}
	return nil
}

// Remove takes the disk called name away. Its file is closed when the last
// request for it is done.
func (d *Device) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for n, k := range d.disks {
		if k != nil && k.Name == name {
			d.disks[n] = nil
			k.release()
			return nil
		}
	}
	return fmt.Errorf("remove disk %s: there is none", name)
}

// hold finds the disk that has count sectors from sector on, nil if none has, and
// where on it they are. It stays open until it is given to let.
func (d *Device) hold(sector, count uint64) (k *disk, at uint64) {
	n, at := sector/Stride, sector%Stride
	d.mu.Lock()
	defer d.mu.Unlock()
	if n > MaxDisks || d.disks[n] == nil {
		return nil, 0
	}
	if k = d.disks[n]; at > k.sectors || count > k.sectors-at {
		return nil, 0
	}
	k.users++
	return k, at
}

func (d *Device) let(k *disk) {
	d.mu.Lock()
	defer d.mu.Unlock()
	k.release()
}

// release is one user less. The device's mu is held.
func (k *disk) release() {
	if k.users--; k.users == 0 {
		k.File.Close()
	}
}

// labels are the device's first sectors.
func (d *Device) labels() []byte {
	all := make([]byte, (MaxDisks+1)*LabelSize)
	d.mu.Lock()
	defer d.mu.Unlock()
	for n, k := range d.disks {
		if k != nil {
			copy(all[n*LabelSize:], k.Label)
		}
	}
	return all
}

// flush puts what was written to any disk on its medium. Only those are asked
// that need it: one container's disk is not to wait for another's.
func (d *Device) flush() (err error) {
	for n := range uint64(MaxDisks + 1) {
		if k, _ := d.hold(n*Stride, 0); k != nil {
			err = errors.Join(err, k.flush())
			d.let(k)
		}
	}
	return err
}

func (k *disk) flush() error {
	k.flushing.Lock()
	defer k.flushing.Unlock()
	if !k.dirty.Swap(false) {
		return nil
	}
	err := unix.Fdatasync(int(k.File.Fd()))
	if err != nil {
		k.dirty.Store(true)
	}
	return err
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
