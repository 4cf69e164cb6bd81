package bundle

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// guestDevices are the character devices that exist in every guest, by major
// and minor number, with their paths there.
var guestDevices = map[[2]int64]string{
	{1, 3}: "/dev/null", {1, 5}: "/dev/zero", {1, 7}: "/dev/full", {1, 8}: "/dev/random", {1, 9}: "/dev/urandom",
	{1, 11}: "/dev/kmsg", {5, 0}: "/dev/tty", {5, 1}: "/dev/console", {5, 2}: "/dev/ptmx",
	{10, 200}: "/dev/net/tun", {10, 229}: "/dev/fuse", {10, 237}: "/dev/loop-control",
}

// loopMajor is the number of loop devices, which the guest makes on demand.
const loopMajor = 7

// inGuest tells whether the guest has d of its own. One of the host's loop
// devices with a file behind it is another one than the guest's.
func inGuest(d specs.LinuxDevice, stat Stat) bool {
	switch d.Type {
	case "c", "u":
		return guestDevices[[2]int64{d.Major, d.Minor}] != ""
	case "b":
		_, err := stat(fmt.Sprintf("/sys/dev/block/%d:%d/loop", d.Major, d.Minor))
		return d.Major == loopMajor && err != nil
	}
	return false
}

// privileged tells whether the last rule for all devices allows everything.
// Engines list every device of the host then, as whoever may use all devices
// expects to find them.
func privileged(l *specs.Linux) bool {
	if l.Resources == nil {
		return false
	}
	all := false
	for _, r := range l.Resources.Devices {
		if (r.Type == "" || r.Type == "a") && anyNumber(r.Major) && anyNumber(r.Minor) {
			all = r.Allow && strings.Contains(r.Access, "r") && strings.Contains(r.Access, "w") && strings.Contains(r.Access, "m")
		}
	}
	return all
}

func anyNumber(n *int64) bool { return n == nil || *n == -1 }

// onHost tells whether the host has the device d, whatever its name there.
func onHost(d specs.LinuxDevice, stat Stat) bool {
	class := "char"
	if d.Type == "b" {
		class = "block"
	}
	_, err := stat(fmt.Sprintf("/sys/dev/%s/%d:%d", class, d.Major, d.Minor))
	return err == nil
}

// splitDevices makes block devices of the host disks of the guest, refuses other
// devices that the guest does not have, and leaves both out of a privileged
// container. A node for a device that the host has not either is made in the
// guest: it is as good there.
func (p *Plan) splitDevices(b *Bundle, stat Stat) error {
	l := p.Guest.Linux
	all := privileged(l)
	var kept []specs.LinuxDevice
	var missing []string
	for i, d := range l.Devices {
		switch {
		case d.Type == "p":
			d.Major, d.Minor = 0, 0 // a pipe has no numbers, but may be given some
			kept = append(kept, d)
		case inGuest(d, stat) || !onHost(d, stat):
			kept = append(kept, d)
		case all:
			missing = append(missing, d.Path)
		case d.Type == "b":
			disk, err := hostDisk(d, l.Resources, stat)
			if err != nil {
				return fmt.Errorf("%s: linux.devices[%d]: %w", filepath.Join(b.Dir, ConfigFile), i, err)
			}
			p.Disks = append(p.Disks, disk)
			kept = append(kept, d)
		default:
			return fmt.Errorf("%s: linux.devices[%d]: %s (%s %d:%d) is a device of the host, which the guest does not have: leave it out",
				filepath.Join(b.Dir, ConfigFile), i, d.Path, d.Type, d.Major, d.Minor)
		}
	}
	l.Devices = kept
	p.noticeMissing(missing)
	return nil
}

// hostDisk is the host's block device d. It is read-only unless a rule lets the
// container write to it.
func hostDisk(d specs.LinuxDevice, r *specs.LinuxResources, stat Stat) (Disk, error) {
	link, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", d.Major, d.Minor))
	if err != nil {
		return Disk{}, fmt.Errorf("find the host's %s (b %d:%d): %w", d.Path, d.Major, d.Minor, err)
	}
	path := "/dev/" + strings.ReplaceAll(filepath.Base(link), "!", "/")
	if st, err := stat(path); err != nil || !isDevice(st, d) {
		return Disk{}, fmt.Errorf("%s (b %d:%d) is not %s on this host, which has no other node for it", d.Path, d.Major, d.Minor, path)
	}
	return Disk{Serial: api.DeviceSerial(d.Major, d.Minor), Path: path, ReadOnly: !writable(d, r)}, nil
}

func isDevice(st fs.FileInfo, d specs.LinuxDevice) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && int64(unix.Major(sys.Rdev)) == d.Major && int64(unix.Minor(sys.Rdev)) == d.Minor
}

// writable tells whether the last rule about d lets the container write.
func writable(d specs.LinuxDevice, r *specs.LinuxResources) (yes bool) {
	if r == nil {
		return true
	}
	matches := func(n *int64, number int64) bool { return anyNumber(n) || *n == number }
	for _, rule := range r.Devices {
		if (rule.Type == "" || rule.Type == "a" || rule.Type == d.Type) && matches(rule.Major, d.Major) && matches(rule.Minor, d.Minor) &&
			(rule.Access == "" || strings.Contains(rule.Access, "w")) {
			yes = rule.Allow
		}
	}
	return yes
}

func (p *Plan) noticeMissing(devices []string) {
	if len(devices) == 0 {
		return
	}
	const most = 8
	list := strings.Join(devices[:min(most, len(devices))], " ")
	if len(devices) > most {
		list += " ..."
	}
	p.notice("privileged container: %d devices of the host do not exist in the guest: %s", len(devices), list)
}
