package process

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// useSource makes source the guest's path of the disk that it stands for, if it does.
func (c *container) useSource(source *string) error {
	serial, ok := strings.CutPrefix(*source, api.DisksDir+"/")
	if !ok {
		return nil
	}
	path, err := c.useDisk(serial)
	if err != nil {
		return err
	}
	*source = path
	return nil
}

// useDisk returns the path of a disk, which is the container's until dropDisks.
func (c *container) useDisk(serial string) (path string, err error) {
	if path, err = c.disks.use(serial); err == nil {
		c.serials = append(c.serials, serial)
	}
	return path, err
}

func (c *container) dropDisks() (err error) {
	for _, serial := range c.serials {
		err = errors.Join(err, c.disks.drop(serial))
	}
	c.serials = nil
	return err
}

// useDisks puts the guest's own names and numbers of disks into spec.
func (c *container) useDisks(spec *specs.Spec) error {
	for i := range spec.Mounts {
		m := &spec.Mounts[i]
		if err := c.useSource(&m.Source); err != nil {
			return fmt.Errorf("mount %s: %w", m.Destination, err)
		}
	}
	if spec.Linux == nil {
		return nil
	}
	numbers := map[number]number{}
	for i := range spec.Linux.Devices {
		if err := c.useDevice(&spec.Linux.Devices[i], numbers); err != nil {
			return err
		}
	}
	if r := spec.Linux.Resources; r != nil {
		translate(r.Devices, numbers)
	}
	return nil
}

// number is a block device's.
type number struct{ major, minor int64 }

// useDevice gives d the guest's number if d is one of the guest's disks, and
// notes it in numbers under the host's.
func (c *container) useDevice(d *specs.LinuxDevice, numbers map[number]number) error {
	if d.Type != "b" {
		return nil
	}
	path, err := c.useDisk(api.DeviceSerial(d.Major, d.Minor))
	if errors.Is(err, os.ErrNotExist) {
		return nil // a node without a disk
	}
	var st unix.Stat_t
	if err == nil {
		err = unix.Stat(path, &st)
	}
	if err != nil {
		return fmt.Errorf("device %s: %w", d.Path, err)
	}
	host := number{d.Major, d.Minor}
	d.Major, d.Minor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	numbers[host] = number{d.Major, d.Minor}
	return nil
}

// translate makes rules about block devices of the host rules about the guest's.
func translate(rules []specs.LinuxDeviceCgroup, numbers map[number]number) {
	for i := range rules {
		r := &rules[i]
		if r.Type != "b" || r.Major == nil || r.Minor == nil {
			continue
		}
		if guest, ok := numbers[number{*r.Major, *r.Minor}]; ok {
			r.Major, r.Minor = &guest.major, &guest.minor
		}
	}
}
