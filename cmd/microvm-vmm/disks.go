package main

import (
	"github.com/sirupsen/logrus"

	"github.com/microvm/microvm/vmm/control"
	"github.com/microvm/microvm/vmm/virtio/blk"
)

// openDisks makes the guest's block devices.
func (d *devices) openDisks(c *control.Config, _ *logrus.Entry) error {
	for _, disk := range c.Disks {
		f, err := openFile(disk.FD, "disk "+disk.Serial)
		if err != nil {
			return err
		}
		device, err := blk.New(blk.Disk{File: f, ReadOnly: disk.ReadOnly, Serial: disk.Serial})
		if err != nil {
			return err
		}
		d.disks = append(d.disks, device)
	}
	return nil
}
