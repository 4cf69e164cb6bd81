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
	for i := range spec.Linux.Devices {
		if err := useDisk(&spec.Linux.Devices[i], spec.Linux.Resources); err != nil {
			return err
		}
	}
	return nil
}

// useDisk gives d, and the rules about it, the guest's numbers if d is one of
// the guest's disks.
func useDisk(d *specs.LinuxDevice, r *specs.LinuxResources) error {
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
	host := *d
	d.Major, d.Minor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	if r == nil {
		return nil
	}
	for i := range r.Devices {
		rule := &r.Devices[i]
		if rule.Type == "b" && rule.Major != nil && rule.Minor != nil && *rule.Major == host.Major && *rule.Minor == host.Minor {
			major, minor := d.Major, d.Minor
			rule.Major, rule.Minor = &major, &minor
		}
	}
	return nil
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
