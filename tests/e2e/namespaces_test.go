package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// podman copies files through the mount namespace of a container's pid.
func TestPidShowsTheContainersFiles(t *testing.T) {
	s := newSite(t)
	volume := t.TempDir()
	b := s.bundle(sh("sleep 1000"), func(spec *specs.Spec) {
		spec.Mounts = append(spec.Mounts,
			specs.Mount{Destination: "/rw", Type: "bind", Source: volume, Options: []string{"bind"}},
			specs.Mount{Destination: "/ro", Type: "bind", Source: volume, Options: []string{"bind", "ro"}},
			specs.Mount{Destination: "/scratch", Type: "tmpfs", Source: "tmpfs"})
	})
	id, pid, _ := s.detached(b)
	root := fmt.Sprintf("/proc/%d/root", pid)
	for _, c := range []struct {
		path, inside string
		ok           bool
	}{
		{"/etc/new", "/etc/new", true}, {"/rw/new", "/ro/new", true}, {"/ro/other", "", false}, {"/scratch/lost", "", false},
	} {
		err := os.WriteFile(filepath.Join(root, c.path), []byte("from the host"), 0o644)
		if (err == nil) != c.ok {
			t.Errorf("write %s: %v", c.path, err)
		}
		if c.ok {
			if got := s.command("exec", id, "cat", c.inside).Output(); got != "from the host" {
				t.Errorf("%s holds %q inside", c.inside, got)
			}
		}
	}
	// Nothing of the host is behind it.
	if _, err := os.Stat(filepath.Join(root, "etc/debian_version")); err == nil {
		t.Error("the host's files are there")
	}
	if o := s.command("exec", id, "cat", "/sys/fs/cgroup/cgroup.procs").Run(); o.Code != 0 {
		t.Errorf("the container does not see its own cgroup: %v", o)
	}
}
