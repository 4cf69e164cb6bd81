package bundle

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
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

func inGuest(d specs.LinuxDevice) bool {
	switch d.Type {
	case "p":
		return true
	case "c", "u":
		return guestDevices[[2]int64{d.Major, d.Minor}] != ""
	case "b":
		return d.Major == loopMajor
	}
	return false
}

func refusedDevices(l *specs.Linux) error {
	if l == nil || privileged(l) {
		return nil
	}
	for i, d := range l.Devices {
		if !inGuest(d) {
			return invalid(fmt.Sprintf("linux.devices[%d]", i), "%s (%s %d:%d) is a device of the host, which the guest does not have", d.Path, d.Type, d.Major, d.Minor)
		}
	}
	return nil
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

// splitDevices leaves out the devices that the guest does not have.
func (p *Plan) splitDevices() {
	l := p.Guest.Linux
	var missing []string
	l.Devices = slices.DeleteFunc(slices.Clone(l.Devices), func(d specs.LinuxDevice) bool {
		if inGuest(d) {
			return false
		}
		missing = append(missing, d.Path)
		return true
	})
	if len(missing) > 0 {
		const most = 8
		list := strings.Join(missing[:min(most, len(missing))], " ")
		if len(missing) > most {
			list += " ..."
		}
		p.notice("privileged container: %d devices of the host do not exist in the guest: %s", len(missing), list)
	}
}
