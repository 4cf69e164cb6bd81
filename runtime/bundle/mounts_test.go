package bundle

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestSplitOverlay(t *testing.T) {
	host := t.TempDir()
	for _, d := range []string{"low:1", "low2", "up", "work", "far/work"} {
		if err := os.MkdirAll(filepath.Join(host, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	lower := "lowerdir=" + host + `/low\:1:` + host + "/low2"
	split := func(options ...string) (*Plan, error) {
		return load(t, func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Type: "overlay", Source: "overlay", Destination: "/o", Options: options}}
		}).Split("x", os.Stat)
	}
	plan, err := split(lower, "upperdir="+host+"/up", "workdir="+host+"/work", "metacopy=on", "private")
	if err != nil {
		t.Fatal(err)
	}
	if want := []Export{
		{Name: "mount0-lower0", Path: host + "/low:1", ReadOnly: true, OneDevice: true, Destination: "/o"},
		{Name: "mount0-lower1", Path: host + "/low2", ReadOnly: true, OneDevice: true, Destination: "/o"},
		{Name: "mount0-upper", Path: host, OneDevice: true, Destination: "/o"},
	}; !slices.Equal(plan.Exports[1:], want) {
		t.Errorf("%+v", plan.Exports)
	}
	const dir = "/run/microvm/exports/mount0-"
	if want := []string{"private", "userxattr", "lowerdir=" + dir + "lower0:" + dir + "lower1",
		"upperdir=" + dir + "upper/up", "workdir=" + dir + "upper/work"}; !slices.Equal(plan.Guest.Mounts[0].Options, want) {
		t.Errorf("%q", plan.Guest.Mounts[0].Options)
	}
	for want, options := range map[string][]string{
		"needs lowerdir":           {"private"},
		"both upperdir and workd":  {lower, "upperdir=" + host + "/up"},
		"must be in one directory": {lower, "upperdir=" + host + "/up", "workdir=" + host + "/far/work"},
		"no such file":             {"lowerdir=" + host + "/nothing"},
	} {
		if _, err := split(options...); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "mounts[0].options: /o: ") {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestInterfacesOfTheKernelAreTheGuests(t *testing.T) {
	b := load(t, func(s *specs.Spec) {
		s.Mounts = []specs.Mount{
			{Type: "bind", Source: "/dev/zero", Destination: "/null", Options: []string{"bind"}},
			{Type: "bind", Source: "/sys/fs/cgroup", Destination: "/sys/fs/cgroup", Options: []string{"rbind", "ro"}},
			{Type: "bind", Source: "/proc/sys", Destination: "/x", Options: []string{"rbind"}},
		}
	})
	plan, err := b.Split("x", os.Stat)
	if err != nil {
		t.Fatal(err)
	}
	m := plan.Guest.Mounts
	if m[0].Source != "/dev/zero" || m[1].Type != "cgroup" || !slices.Equal(m[1].Options, []string{"ro"}) || m[2].Source != "/proc/sys" {
		t.Errorf("%+v", m)
	}
	if len(plan.Exports) != 1 || len(plan.Notices) != 2 {
		t.Errorf("%+v %q", plan.Exports, plan.Notices)
	}
}

// runc before 1.2 took such options and dropped them.
func TestOptionsOfTheFileSystemBehindABindMount(t *testing.T) {
	options := []string{"nosuid", "strictatime", "mode=755", "size=1k", "bind", "shared", "idmap"}
	b := load(t, func(s *specs.Spec) {
		s.Mounts = []specs.Mount{{Source: "/etc", Destination: "/x", Options: options}, {Type: "tmpfs", Destination: "/t", Options: []string{"size=1k"}}}
	})
	plan, err := b.Split("x", os.Stat)
	if err != nil {
		t.Fatal(err)
	}
	m := plan.Guest.Mounts
	if got := strings.Join(m[0].Options, ","); got != "nosuid,strictatime,bind,shared,idmap" || m[1].Options[0] != "size=1k" {
		t.Errorf("%+v", m)
	}
	if len(plan.Notices) != 1 || !strings.Contains(plan.Notices[0], "/x: mode=755,size=1k:") || len(b.Spec.Mounts[0].Options) != len(options) {
		t.Errorf("%q %q", plan.Notices, b.Spec.Mounts[0].Options)
	}
}

func TestDiskMounts(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b := load(t, func(s *specs.Spec) {
		s.Mounts = []specs.Mount{
			{Destination: "/a", Type: "ext4", Source: image, Options: []string{"loop", "noatime"}},
			{Destination: "/b", Type: "ext4", Source: image, Options: []string{"ro"}},
			{Destination: "/c", Type: "erofs", Source: image, Options: []string{"rw", "noatime"}},
		}
	})
	plan, err := b.Split("x", os.Stat)
	if err != nil {
		t.Fatal(err)
	}
	if want := []Disk{{"mount0", image, false}, {"mount1", image, true}, {"mount2", image, true}}; !slices.Equal(plan.Disks, want) {
		t.Errorf("disks %+v", plan.Disks)
	}
	if m := plan.Guest.Mounts[0]; m.Source != "/run/microvm/disks/mount0" || !slices.Equal(m.Options, []string{"noatime"}) {
		t.Errorf("%+v", m)
	}
	if m := plan.Guest.Mounts[2]; !slices.Equal(m.Options, []string{"noatime", "ro"}) {
		t.Errorf("erofs: %+v", m)
	}
	for source, want := range map[string]string{"/dev/null": "neither a file nor a block device", "/nowhere": "no such file"} {
		b := load(t, func(s *specs.Spec) { s.Mounts = []specs.Mount{{Destination: "/a", Type: "ext4", Source: source}} })
		if _, err := b.Split("x", os.Stat); err == nil || !strings.Contains(err.Error(), "mounts[0].source: /a: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", source, err)
		}
	}
}
