package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// disks are the guest's, which come and go. Each is a partition of the one block
// device while containers use it.
type disks struct {
	mu   sync.Mutex
	used map[string]*usedDisk // by serial
}

type usedDisk struct{ number, users int }

// use makes a disk a partition and returns the path of that. It is os.ErrNotExist
// if no disk has the serial.
func (d *disks) use(serial string) (path string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	device, err := openDevice()
	if err != nil {
		return "", fmt.Errorf("disk %s: %w", serial, err)
	}
	defer device.Close()
	u := d.used[serial]
	if u == nil {
		if u, err = newDisk(device, serial); err != nil {
			return "", fmt.Errorf("disk %s: %w", serial, err)
		}
		if d.used == nil {
			d.used = map[string]*usedDisk{}
		}
		d.used[serial] = u
	}
	u.users++
	return partitionPath(device, u.number), nil
}

func partitionPath(device *os.File, n int) string { return fmt.Sprint(device.Name(), n) }

// openDevice opens the block device that has the disks. What it reads is what the
// host says now.
func openDevice() (*os.File, error) {
	files, err := filepath.Glob("/sys/block/vd*/serial")
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil && strings.TrimSpace(string(text)) == api.DisksSerial {
			return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(f)), os.O_RDWR|unix.O_DIRECT, 0)
		}
	}
	return nil, os.ErrNotExist
}

// newDisk makes the disk a partition.
func newDisk(device *os.File, serial string) (*usedDisk, error) {
	n, label, err := findDisk(device, serial)
	if err != nil {
		return nil, err
	}
	err = addPartition(device, n, label.Size)
	if errors.Is(err, unix.EBUSY) {
		// One that was there before, and was in use longer than its container.
		if err = deletePartition(device, n); err == nil {
			err = addPartition(device, n, label.Size)
		}
	}
	if err != nil {
		return nil, err
	}
	if label.ReadOnly {
		if err := setReadOnly(partitionPath(device, n)); err != nil {
			return nil, errors.Join(err, deletePartition(device, n))
		}
	}
	return &usedDisk{number: n}, nil
}

func findDisk(device *os.File, serial string) (n int, label api.DiskLabel, err error) {
	// The kernel reads into whole pages past its cache.
	all, err := unix.Mmap(-1, 0, (api.MaxDisks+1)*api.DiskLabelSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return 0, label, err
	}
	defer unix.Munmap(all)
	if _, err := device.ReadAt(all, 0); err != nil {
		return 0, label, err
	}
	for n := 1; n <= api.MaxDisks; n++ {
		if label.Unmarshal(all[n*api.DiskLabelSize:][:api.DiskLabelSize]) && label.Serial == serial {
			return n, label, nil
		}
	}
	return 0, label, os.ErrNotExist
}

func setReadOnly(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.BLKROSET, 1)
}

// A container's mounts may outlive its last process by a moment.
const (
	unmountGrace = 5 * time.Second
	unmountPoll  = 10 * time.Millisecond
)

// drop is the end of a use.
func (d *disks) drop(serial string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	u := d.used[serial]
	if u.users--; u.users > 0 {
		return nil
	}
	delete(d.used, serial)
	device, err := openDevice()
	if err != nil {
		return err
	}
	defer device.Close()
	for end := time.Now().Add(unmountGrace); ; time.Sleep(unmountPoll) {
		err = deletePartition(device, u.number)
		if !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
			return err
		}
	}
}
