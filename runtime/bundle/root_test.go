package bundle

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/agent/api"
)

// rootMount is "TYPE SOURCE OPTION,OPTION", where @ is dir.
func rootMount(dir, text string) *api.Mount {
	f := strings.SplitN(strings.ReplaceAll(text, "@", dir), " ", 3)
	m := &api.Mount{Type: f[0], Source: f[1]}
	if len(f) > 2 {
		m.Options = strings.Split(f[2], ",")
	}
	return m
}

func newRootDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"dir/up", "dir/work", "dir2"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"image", "layer", "device"} {
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestRootInGuest(t *testing.T) {
	dir := newRootDir(t)
	for text, want := range map[string]string{
		"bind @/dir rbind,ro":            "false",
		"overlay overlay lowerdir=@/dir": "false",
		"btrfs /dev/null subvol=1":       "false",
		"fuse3.fuse-overlayfs overlay x": "false",
		"ext4 @/image loop":              "true",
		"ext4 /dev/null rw":              "true",
		"erofs @/layer ro":               "true",
		"format/bind {{ mount 0 }} ro":   "true",
		"mkdir/overlay overlay x":        "true",
		"xfs @/image loop":               "of type xfs on an image or block device is not supported, [ext2 ext3 ext4 erofs loop] are",
		"squashfs /dev/null ro":          "of type squashfs on an image",
		"format/mkfs/ext4 @/image x":     "transformation mkfs is not supported, [format mkdir] are",
		"ext4/ @/image x":                "transformation ext4 is not",
	} {
		guest, err := RootInGuest([]*api.Mount{rootMount(dir, text)}, os.Stat)
		if got := fmt.Sprint(guest); err == nil && got != want || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", text, guest, err)
		}
	}
}

// assembledRoot tells of a plan as far as its root file system goes.
func assembledRoot(t *testing.T, dir, mounts string) (string, error) {
	t.Helper()
	p := &Plan{Guest: &specs.Spec{Root: &specs.Root{Path: guestPath(RootExport)}}, Exports: []Export{{Name: RootExport}, {Name: "mount1"}}, Mountpoints: []Mountpoint{{}}}
	p.Disks = []Disk{{Serial: api.DeviceSerial(8, 0)}}
	var all []*api.Mount
	for _, text := range strings.Split(mounts, "; ") {
		all = append(all, rootMount(dir, text))
	}
	if err := p.AssembleRoot(all, os.Stat); err != nil {
		return "", err
	}
	p.Prefix("c-")
	var b strings.Builder
	for _, m := range p.Root {
		fmt.Fprintf(&b, "%s %s %s\n", m.Type, m.Source, strings.Join(m.Options, ","))
	}
	for _, d := range p.Disks[1:] {
		fmt.Fprintf(&b, "disk %s %s %v\n", d.Serial, d.Path, d.ReadOnly)
	}
	for _, e := range p.Exports[1:] {
		if e.Destination != "/" || e.Immutable != e.ReadOnly {
			t.Errorf("%+v: a layer is part of the root, and immutable if it is of the image", e)
		}
		fmt.Fprintf(&b, "export %s %s %v\n", e.Name, e.Path, e.ReadOnly)
	}
	if p.Exports[0].Name != "c-mount1" || p.Disks[0].Serial != "b8:0" || p.Mountpoints != nil {
		t.Errorf("%+v", p)
	}
	return strings.NewReplacer(dir, "@", api.DisksDir, "DISKS", api.ExportsDir, "EXPORTS").Replace(b.String()), nil
}

// TestSnapshotsAreFrozen if the container only reads them, but no directory that
// may be anybody's.
func TestSnapshotsAreFrozen(t *testing.T) {
	for _, c := range []struct {
		path           string
		readonly, want bool
	}{{"rootfs", true, true}, {"rootfs", false, false}, {"/", true, false}} {
		b := load(t, func(s *specs.Spec) { s.Root = &specs.Root{Path: c.path, Readonly: c.readonly} })
		p, err := b.Split("x", os.Stat)
		if err != nil {
			t.Fatal(err)
		}
		if p.Exports[0].Immutable {
			t.Error("frozen without being asked:", c)
		}
		if p.FreezeRoot(b); p.Exports[0].Immutable != c.want {
			t.Errorf("%+v: %+v", c, p.Exports[0])
		}
	}
}

func TestAssembleRoot(t *testing.T) {
	dir := newRootDir(t)
	for _, c := range []struct{ mounts, want string }{
		{"ext4 @/image loop,rw,discard", "ext4 DISKS/c-root0 rw,discard\ndisk c-root0 @/image false\n"},
		{"ext4 @/image loop,ro", "ext4 DISKS/c-root0 ro\ndisk c-root0 @/image true\n"},
		{"erofs @/layer loop,rw", "erofs DISKS/c-root0 ro\ndisk c-root0 @/layer true\n"},
		{
			"erofs @/layer ro,loop,device=@/device,device=@/image; format/bind {{ mount 0 }} ro",
			"erofs DISKS/c-root0 device=DISKS/c-root0-0,device=DISKS/c-root0-1,ro\nformat/bind {{ mount 0 }} ro\n" +
				"disk c-root0 @/layer true\ndisk c-root0-0 @/device true\ndisk c-root0-1 @/image true\n",
		},
		{
			"ext4 @/image rw; erofs @/layer ro; format/mkdir/overlay x X-containerd.mkdir.path={{ mount 0 }}/up:0755,upperdir={{ mount 0 }}/up,workdir={{ mount 0 }}/work,lowerdir={{ overlay 1 1 }},index=off",
			"ext4 DISKS/c-root0 rw\nerofs DISKS/c-root1 ro\nformat/mkdir/overlay overlay X-containerd.mkdir.path={{ mount 0 }}/up:0755,lowerdir={{ overlay 1 1 }},upperdir={{ mount 0 }}/up,workdir={{ mount 0 }}/work\n" +
				"disk c-root0 @/image false\ndisk c-root1 @/layer true\n",
		},
		{
			"erofs @/layer ro; format/overlay x upperdir=@/dir/up,workdir=@/dir/work,lowerdir={{ mount 0 }}:@/dir2",
			"erofs DISKS/c-root0 ro\nformat/overlay overlay userxattr,lowerdir={{ mount 0 }}:EXPORTS/c-root1-lower1,upperdir=EXPORTS/c-root1-upper/up,workdir=EXPORTS/c-root1-upper/work\n" +
				"disk c-root0 @/layer true\nexport c-root1-lower1 @/dir2 true\nexport c-root1-upper @/dir false\n",
		},
		{"loop @/image rw; format/ext4 {{ mount 0 }} ro", "loop DISKS/c-root0 rw\nformat/ext4 {{ mount 0 }} ro\ndisk c-root0 @/image false\n"},
		{"bind @/dir2 ro; format/bind {{ mount 0 }}/x rw", "bind EXPORTS/c-root0 ro\nformat/bind {{ mount 0 }}/x rw\nexport c-root0 @/dir2 true\n"},
	} {
		if got, err := assembledRoot(t, dir, c.mounts); err != nil || got != c.want {
			t.Errorf("%s: %v\ngot  %s\nwant %s", c.mounts, err, got, c.want)
		}
	}
	for mounts, want := range map[string]string{
		"loop @/image rw; format/xfs {{ mount 0 }} ro": "a file system of type xfs",
		"ext4 @/none rw":   "root file system: mount 0 of type ext4 from " + dir + "/none: stat ",
		"ext4 @/dir rw":    "is neither a file nor a block device",
		"ext4 /dev/null x": "is neither a file nor a block device",
		"erofs @/layer ro,X-containerd.dmverity=@/x":                                                   "no dm-verity",
		"erofs @/layer ro,X-containerd.new":                                                            "X-containerd.new is not supported",
		"erofs @/layer ro; format/overlay x lowerdir={{ mount 0 }},uidmap=0:1:2":                       "mapped ids",
		"erofs @/layer ro; mkdir/overlay x lowerdir={{ mount 0 }},X-containerd.mkdir.path=/x":          "a directory of the host is not made",
		"erofs @/layer ro; format/overlay x lowerdir={{ mount 0 }}:@/dir:@/dir2":                       "several lower layers in directories",
		"erofs @/layer ro; format/overlay x lowerdir={{ mount 0 }},upperdir=@/dir/up,workdir=@/dir2/w": "must be in one directory",
		"erofs @/layer ro; format/overlay x upperdir=@/dir/up,workdir=@/dir/work":                      "needs lowerdir",
		"erofs @/layer ro; format/bind @/image x":                                                      "is not a directory",
	} {
		if _, err := assembledRoot(t, dir, mounts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want %q, got %v", mounts, want, err)
		}
	}
}
