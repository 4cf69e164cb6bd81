package sandbox

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm/control"
)

// openDisks opens the disks, which the host's block layer and other machines
// then leave alone.
func (d *donation) openDisks(c *Config) error {
	if most := MaxNICs(c.Machine); len(c.NICs)+len(c.Disks) > most {
		return fmt.Errorf("machine with %d network devices and %d disks: a machine of kind %s has room for %d together", len(c.NICs), len(c.Disks), c.Machine, most)
	}
	for _, disk := range c.Disks {
		f, err := disk.open()
		if err != nil {
			return err
		}
		d.config.Disks = append(d.config.Disks, control.Disk{Serial: disk.Serial, FD: d.add(f), ReadOnly: disk.ReadOnly})
	}
	return nil
}

// open opens and locks the disk. Two kernels that write to one file system, or
// one that reads what the other writes, would ruin it.
func (d *Disk) open() (*os.File, error) {
	flags, lock := os.O_RDWR|unix.O_EXCL, unix.LOCK_EX
	if d.ReadOnly {
		flags, lock = os.O_RDONLY, unix.LOCK_SH
	}
	info, err := os.Stat(d.Path)
	if err != nil {
		return nil, fmt.Errorf("open disk: %w", err)
	}
	if info.Mode().IsRegular() {
		flags &^= unix.O_EXCL // of block devices only: not mounted, for one
	}
	f, err := os.OpenFile(d.Path, flags, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("open disk %s: the host uses it: unmount it there: %w", d.Path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open disk: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), lock|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock disk %s: another machine or program uses it: %w", d.Path, err)
	}
	return f, nil
}
