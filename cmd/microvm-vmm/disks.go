package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm/control"
	"github.com/microvm/microvm/vmm/virtio/blk"
)

// openDisks makes the guest's block device, if it is to have one, with its first
// disks.
func (d *devices) openDisks(c *control.Config, _ *logrus.Entry) error {
	if len(c.Disks) == 0 && !c.MoreDisks {
		return nil
	}
	d.disks = blk.New()
	for _, disk := range c.Disks {
		f, err := openFile(disk.FD, "disk "+disk.Name)
		if err != nil {
			return err
		}
		if err := d.disks.Add(blk.Disk{Name: disk.Name, File: f, ReadOnly: disk.ReadOnly, Label: disk.Label}); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return nil
}

var errNoDisks = errors.New("the machine has no room for disks that come later")

// addDisk shows the guest a copy of the file that came along.
func (s service) addDisk(k *control.Disk, files []*os.File) error {
	if s.devices.disks == nil {
		return errNoDisks
	}
	if k == nil || len(files) != 1 {
		return fmt.Errorf("add disk: %d descriptors came along, want a name and 1", len(files))
	}
	fd, err := unix.FcntlInt(files[0].Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("copy descriptor: %w", err)
	}
	f := os.NewFile(uintptr(fd), "disk "+k.Name)
	if err := s.devices.disks.Add(blk.Disk{Name: k.Name, File: f, ReadOnly: k.ReadOnly, Label: k.Label}); err != nil {
		return errors.Join(err, f.Close())
	}
	return nil
}

func (s service) removeDisk(k *control.Disk) error {
	if s.devices.disks == nil {
		return errNoDisks
	}
	if k == nil {
		return errors.New("remove disk: no name")
	}
	return s.devices.disks.Remove(k.Name)
}
