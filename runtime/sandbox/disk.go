package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/vmm/control"
)

// AddDisk gives the running guest one more disk.
func (vm *VM) AddDisk(ctx context.Context, d Disk) error {
	f, err := d.open()
	if err != nil {
		return err
	}
	defer f.Close()
	described, err := d.describe(f)
	if err != nil {
		return err
	}
	_, err = vm.request(ctx, control.Request{Op: control.OpAddDisk, Disk: &described}, f)
	return err
}

// RemoveDisk takes a disk away, which the guest must not use any more.
func (vm *VM) RemoveDisk(ctx context.Context, serial string) error {
	_, err := vm.request(ctx, control.Request{Op: control.OpRemoveDisk, Disk: &control.Disk{Name: serial}})
	return err
}

// openDisks opens the disks, which the host's block layer and other machines
// then leave alone. All of them take the room of one device.
func (d *donation) openDisks(c *Config) error {
	full := len(c.NICs) >= MaxNICs(c.Machine)
	if full && len(c.Disks) > 0 {
		return fmt.Errorf("machine with disks and %d network devices: one of kind %s has room for either", len(c.NICs), c.Machine)
	}
	d.config.MoreDisks = c.MoreDisks && !full
	for _, disk := range c.Disks {
		f, err := disk.open()
		if err != nil {
			return err
		}
		fd := d.add(f)
		described, err := disk.describe(f)
		if err != nil {
			return err
		}
		described.FD = fd
		d.config.Disks = append(d.config.Disks, described)
	}
	return nil
}

// describe describes the disk, which is open as f, to the VM process and, by its
// label, to the guest.
func (d *Disk) describe(f *os.File) (control.Disk, error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return control.Disk{}, fmt.Errorf("size of disk %s: %w", d.Path, err)
	}
	label := api.DiskLabel{Serial: d.Serial, Size: end &^ 511, ReadOnly: d.ReadOnly}
	text, err := label.Marshal()
	return control.Disk{Name: d.Serial, Label: text, ReadOnly: d.ReadOnly}, err
}

// open opens and locks the disk. Two kernels that write to one file system, or
// one that reads what the other writes, would ruin it.
func (d *Disk) open() (*os.File, error) {
	f, err := d.openUnused()
	if err != nil {
		return nil, err
	}
	lock := unix.LOCK_EX
	if d.ReadOnly {
		lock = unix.LOCK_SH
	}
	if err := unix.Flock(int(f.Fd()), lock|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock disk %s: another machine or program uses it: %w", d.Path, err)
	}
	return f, nil
}

// openUnused opens the disk unless the host itself uses it.
func (d *Disk) openUnused() (*os.File, error) {
	info, err := os.Stat(d.Path)
	if err != nil {
		return nil, fmt.Errorf("open disk: %w", err)
	}
	flags := os.O_RDWR
	if d.ReadOnly {
		flags = os.O_RDONLY
	}
	if info.Mode().IsRegular() {
		if err := d.looped(info); err != nil {
			return nil, err
		}
		return d.openAs(flags)
	}
	// O_EXCL is a claim, which the host's file systems make, too, on the device
	// or a part of it. Machines that only read share the device.
	claim, err := d.openAs(flags | unix.O_EXCL)
	if err != nil || !d.ReadOnly {
		return claim, err
	}
	defer claim.Close()
	return d.openAs(flags)
}

func (d *Disk) openAs(flags int) (*os.File, error) {
	f, err := os.OpenFile(d.Path, flags, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("open disk %s: the host uses it: unmount it there: %w", d.Path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open disk: %w", err)
	}
	return f, nil
}

// looped returns an error if the host uses the image, which is file, through a
// loop device. Two that only read do not disturb each other.
func (d *Disk) looped(file fs.FileInfo) error {
	name, readOnly, err := loopDevice(file)
	if err != nil {
		return fmt.Errorf("disk %s: look for loop devices on it: %w", d.Path, err)
	}
	if name == "" || readOnly && d.ReadOnly {
		return nil
	}
	return fmt.Errorf("disk %s: the host uses it through /dev/%s: unmount it there and detach it (losetup -d /dev/%s)", d.Path, name, name)
}
