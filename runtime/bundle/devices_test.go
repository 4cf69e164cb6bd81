package bundle

import (
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// hostWith8 is a host that has the block device 8:0, the character device 8:1,
// the loop devices 7:8, with a file behind it, and 7:9, and no other.
func hostWith8(path string) (fs.FileInfo, error) {
	switch path {
	case "/sys/dev/block/8:0", "/sys/dev/char/8:1", "/sys/dev/block/7:8", "/sys/dev/block/7:8/loop", "/sys/dev/block/7:9":
		return os.Stat("/")
	}
	return nil, fs.ErrNotExist
}

func TestDevices(t *testing.T) {
	fuse := specs.LinuxDevice{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229}
	pipe := specs.LinuxDevice{Path: "/dev/pipe", Type: "p", Major: 8}
	none := specs.LinuxDevice{Path: "/dev/none", Type: "c", Major: 8}
	sda := specs.LinuxDevice{Path: "/dev/sda", Type: "b", Major: 8}
	tty := specs.LinuxDevice{Path: "/dev/tty1", Type: "c", Major: 8, Minor: 1}
	used := specs.LinuxDevice{Path: "/dev/loop8", Type: "b", Major: 7, Minor: 8}
	free := specs.LinuxDevice{Path: "/dev/loop9", Type: "b", Major: 7, Minor: 9}
	all := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}, {Allow: true, Access: "rwm"}}
	for _, c := range []struct {
		name    string
		rules   []specs.LinuxDeviceCgroup
		devices []specs.LinuxDevice
		kept    string
		notice  string // or error
	}{
		{"in the guest", nil, []specs.LinuxDevice{fuse, pipe}, "/dev/fuse /dev/pipe", ""},
		{"in neither", nil, []specs.LinuxDevice{none}, "/dev/none", ""},
		{"on the host", nil, []specs.LinuxDevice{fuse, sda}, "", "/config.json: linux.devices[1]: find the host's /dev/sda (b 8:0): "},
		{"loop devices", nil, []specs.LinuxDevice{free, used}, "", "/config.json: linux.devices[1]: find the host's /dev/loop8 (b 7:8): "},
		{"free loop device", nil, []specs.LinuxDevice{free}, "/dev/loop9", ""},
		{"terminal of the host", nil, []specs.LinuxDevice{fuse, tty}, "", "/config.json: linux.devices[1]: /dev/tty1 (c 8:1) is a device of the host"},
		{"privileged", all, []specs.LinuxDevice{sda, fuse, none}, "/dev/fuse /dev/none", "1 devices of the host do not exist in the guest: /dev/sda"},
	} {
		b := load(t, func(s *specs.Spec) { s.Linux.Devices, s.Linux.Resources.Devices, s.Mounts = c.devices, c.rules, nil })
		plan, err := b.Split("x", hostWith8)
		if c.kept == "" {
			if err == nil || !strings.Contains(err.Error(), b.Dir+c.notice) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var kept []string
		for _, d := range plan.Guest.Linux.Devices {
			kept = append(kept, d.Path)
			if d.Type == "p" && d.Major != 0 {
				t.Errorf("%s: a pipe has the number %d", c.name, d.Major)
			}
		}
		if got := strings.Join(kept, " "); got != c.kept || !strings.Contains(strings.Join(plan.Notices, "\n"), c.notice) || (c.notice == "") != (len(plan.Notices) == 0) {
			t.Errorf("%s: %s %q", c.name, got, plan.Notices)
		}
		if len(b.Spec.Linux.Devices) != len(c.devices) {
			t.Errorf("%s: the bundle was changed", c.name)
		}
	}
}

func TestWritableDisk(t *testing.T) {
	d := specs.LinuxDevice{Path: "/dev/sda", Type: "b", Major: 8, Minor: 1}
	rule := func(allow bool, kind string, major, minor int64, access string) specs.LinuxDeviceCgroup {
		return specs.LinuxDeviceCgroup{Allow: allow, Type: kind, Major: &major, Minor: &minor, Access: access}
	}
	deny := specs.LinuxDeviceCgroup{Access: "rwm"}
	for _, c := range []struct {
		rules []specs.LinuxDeviceCgroup
		want  bool
	}{
		{nil, false},
		{[]specs.LinuxDeviceCgroup{deny}, false},
		{[]specs.LinuxDeviceCgroup{deny, rule(true, "b", 8, 1, "rwm")}, true},
		{[]specs.LinuxDeviceCgroup{deny, rule(true, "b", 8, -1, "rw")}, true},
		{[]specs.LinuxDeviceCgroup{deny, rule(true, "b", 8, 1, "r")}, false},
		{[]specs.LinuxDeviceCgroup{deny, rule(true, "b", 8, 2, "rwm")}, false},
		{[]specs.LinuxDeviceCgroup{deny, rule(true, "c", 8, 1, "rwm")}, false},
		{[]specs.LinuxDeviceCgroup{rule(true, "b", 8, 1, "rwm"), deny}, false},
	} {
		if got := writable(d, &specs.LinuxResources{Devices: c.rules}); got != c.want {
			t.Errorf("%+v: %v", c.rules, got)
		}
	}
	if !writable(d, nil) {
		t.Error("not writable without rules")
	}
}
