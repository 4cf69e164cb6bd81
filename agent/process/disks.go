package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// useDisks puts the guest's own names and numbers of disks into spec.
func useDisks(spec *specs.Spec) error {
	for i := range spec.Mounts {
		m := &spec.Mounts[i]
		serial, ok := strings.CutPrefix(m.Source, api.DisksDir+"/")
		if !ok {
			continue
		}
		name, err := disk(serial)
		if err != nil {
			return fmt.Errorf("mount %s: %w", m.Destination, err)
		}
		m.Source = "/dev/" + name
	}
	if spec.Linux == nil {
		return nil
	}
	numbers := map[number]number{}
	for i := range spec.Linux.Devices {
		if err := useDisk(&spec.Linux.Devices[i], numbers); err != nil {
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

// useDisk gives d the guest's number if d is one of the guest's disks, and
// notes it in numbers under the host's.
func useDisk(d *specs.LinuxDevice, numbers map[number]number) error {
	if d.Type != "b" {
		return nil
	}
	name, err := disk(api.DeviceSerial(d.Major, d.Minor))
	if errors.Is(err, os.ErrNotExist) {
		return nil // a node without a disk
	}
	var st unix.Stat_t
	if err == nil {
		err = unix.Stat("/dev/"+name, &st)
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

// disk finds the disk with a serial by its name in /dev.
func disk(serial string) (string, error) {
	files, err := filepath.Glob("/sys/block/vd*/serial")
	if err != nil {
		return "", err
	}
	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil && strings.TrimSpace(string(text)) == serial {
			return filepath.Base(filepath.Dir(f)), nil
		}
	}
	return "", fmt.Errorf("disk %s: %w", serial, os.ErrNotExist)
}
