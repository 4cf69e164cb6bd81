package engines

import (
	"path/filepath"
	"strings"
	"testing"
)

func newPodman(t *testing.T) *engine {
	t.Helper()
	dir := t.TempDir()
	e := &engine{name: "podman", args: []string{
		"podman", "--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--tmpdir", filepath.Join(dir, "tmp"),
		"--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "file",
		"--runtime", runtimePath(), "--runtime-flag", "machine=" + machine,
	}}
	e.command(t, "import", rootfs, image).Output()
	t.Cleanup(func() { e.command(t, "rm", "--force", "--all", "--time", "0").Output() })
	return e
}

func TestPodman(t *testing.T) {
	e := newPodman(t)
	testEngine(t, e)
	t.Run("health", func(t *testing.T) {
		e.container(t, "--detach", "--name", "healthy", "--health-cmd", "test -e /tmp/well", "--health-interval", "disable", image, "sleep", "1000").Output()
		if o := e.command(t, "healthcheck", "run", "healthy").Run(); o.Code != 1 {
			t.Errorf("before: %v", o)
		}
		e.command(t, "exec", "healthy", "touch", "/tmp/well").Output()
		e.command(t, "healthcheck", "run", "healthy").Wants(0)
	})
	t.Run("build", func(t *testing.T) {
		build := []string{"build", "--network", "none", "--isolation", "oci", "--runtime", runtimePath(), "--tag", "built"}
		e.command(t, append(build, buildContext(t))...).Output()
		builtOutput(t, e)
	})
	t.Run("out of memory", func(t *testing.T) {
		o := e.container(t, "--name", "hungry", "--memory", "64m", image, "tail", "/dev/zero").Run()
		if o.Code != 137 {
			t.Errorf("%v", o)
		}
		if got := strings.TrimSpace(e.command(t, "inspect", "--format", "{{.State.OOMKilled}}", "hungry").Output()); got != "true" {
			t.Errorf("OOMKilled is %s", got)
		}
	})
}
