package bundle

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// tmpfs mounts one at dir, which it makes.
func tmpfs(t *testing.T, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root mounts")
	}
	if err := errors.Join(os.MkdirAll(dir, 0o755), unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=2770,gid=30")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

func TestVolumesInMemoryAreTheGuests(t *testing.T) {
	host := t.TempDir()
	empty, secret := host+emptyDirs+"a", host+"/volumes/kubernetes.io~secret/b"
	tmpfs(t, empty)
	tmpfs(t, secret)
	if err := errors.Join(os.Mkdir(empty+"/sub", 0o700), os.WriteFile(empty+"/file", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	split := func(change func(*specs.Spec), sources ...string) (*Plan, error) {
		b, err := LoadInPod(writeBundle(t, func(s *specs.Spec) {
			change(s)
			s.Mounts = nil
			for _, source := range sources {
				s.Mounts = append(s.Mounts, specs.Mount{Type: "bind", Source: source, Destination: "/x" + source, Options: []string{"rbind", "ro"}})
			}
		}), Pod{PID: 42})
		if err != nil {
			t.Fatal(err)
		}
		return b.Split("x", os.Stat)
	}
	p, err := split(podContainer, empty, empty+"/sub", secret)
	if err != nil {
		t.Fatal(err)
	}
	m := p.Guest.Mounts
	if len(p.Exports) != 2 || p.Exports[1].Path != secret || !strings.HasPrefix(m[0].Source, api.MemoryDir+"/") || m[1].Source != m[0].Source+"/sub" || m[2].Source != guestPath("mount2") {
		t.Fatalf("%+v, exports %+v", m, p.Exports)
	}
	root, err := api.TakeMemory(&m[0])
	if err != nil || root.Size != 1<<20 || root.Root != (api.Owner{Mode: 0o2770, GID: 30}) || root.Dir != root.Root || strings.Join(m[0].Options, ",") != "rbind,ro" {
		t.Errorf("%+v, %v, %q", root, err, m[0].Options)
	}
	if sub, err := api.TakeMemory(&m[1]); err != nil || sub.Root != root.Root || sub.Dir.Mode != 0o2700 {
		t.Errorf("%+v, %v", sub, err)
	}
	if _, err := split(podContainer, empty+"/file"); err == nil || !strings.Contains(err.Error(), "mount the directory") {
		t.Errorf("a file: %v", err)
	}
	if p, err := split(func(*specs.Spec) {}, empty); err != nil || len(p.Exports) != 2 {
		t.Errorf("without a pod: %v, %+v", err, p)
	}
}
