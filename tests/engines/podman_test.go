package engines

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/microvm/microvm/tests/command"
	"github.com/microvm/microvm/tests/lab/labtest"
)

func newPodman(t *testing.T) *engine {
	t.Helper()
	dir := t.TempDir()
	e := &engine{name: "podman", args: []string{
		"podman", "--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--tmpdir", filepath.Join(dir, "tmp"),
		"--network-config-dir", filepath.Join(dir, "networks"), "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "file",
		"--runtime", runtimePath(), "--runtime-flag", "machine=" + machine,
	}}
	e.command(t, "import", rootfs, image).Output()
	t.Cleanup(func() {
		e.command(t, "rm", "--force", "--all", "--time", "0").Output()
		// conmon has podman clean up after a container that has ended.
		command.Eventually(t, "podman has cleaned up", func() bool { return !mentioned(dir) })
	})
	return e
}

// mentioned says that dir is in the command line of some process.
func mentioned(dir string) bool {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		if line, err := os.ReadFile(path); err == nil && strings.Contains(string(line), dir) {
			return true
		}
	}
	return false
}

func TestPodman(t *testing.T) {
	e := newPodman(t)
	testEngine(t, e)
	t.Run("health", func(t *testing.T) {
		labtest.SameOnBoth(t)
		e.container(t, "--detach", "--name", "healthy", "--health-cmd", "test -e /tmp/well", "--health-interval", "disable", image, "sleep", "1000").Output()
		if o := e.command(t, "healthcheck", "run", "healthy").Run(); o.Code != 1 {
			t.Errorf("before: %v", o)
		}
		e.command(t, "exec", "healthy", "touch", "/tmp/well").Output()
		e.command(t, "healthcheck", "run", "healthy").Wants(0)
	})
	t.Run("network", func(t *testing.T) { testPodmanNetwork(t, e) })
	t.Run("pod", func(t *testing.T) { testPodmanPod(t, e) })
	t.Run("build", func(t *testing.T) {
		labtest.SameOnBoth(t)
		build := []string{"build", "--network", "none", "--isolation", "oci", "--runtime", runtimePath(), "--tag", "built"}
		e.command(t, append(build, buildContext(t))...).Output()
		builtOutput(t, e)
	})
}

// testPodmanPod runs the containers of a pod in one machine. They have cgroups of
// their own: podman 4.3 lets what is in a pod's open no device at all on cgroup v2
// without systemd, with runc neither.
func testPodmanPod(t *testing.T, e *engine) {
	volume := t.TempDir()
	e.command(t, "pod", "create", "--name", "pod", "--network", "none", "--share-parent=false", "--infra-image", image, "--infra-command", "/bin/sleep 1000").Output()
	run := func(script string) {
		e.command(t, "run", "--detach", "--pod", "pod", "--volume", volume+":/data", image, "sh", "-c", script).Output()
	}
	run("exec httpd -f -p 8080 -h /data")
	run("echo written > /data/index.html; exec sleep 1000")
	command.Eventually(t, "one container serves to a third what another has written", func() bool {
		return e.command(t, "run", "--rm", "--pod", "pod", image, "wget", "-q", "-O", "-", "http://127.0.0.1:8080/").Run().Stdout == "written\n"
	})
	e.command(t, "pod", "rm", "--force", "--time", "0", "pod").Output()
}

// testPodmanNetwork uses podman's default network: a bridge with a gateway on
// this host, and a published port.
func testPodmanNetwork(t *testing.T, e *engine) {
	e.command(t, "run", "--detach", "--name", "web", "--cap-add", "net_raw", "--publish", "127.0.0.1::80", image, "sh", "-c", serve).Output()
	published := strings.TrimSpace(e.command(t, "port", "web", "80").Output())
	command.Eventually(t, "the published port answers", func() bool {
		resp, err := http.Get("http://" + published)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		page, err := io.ReadAll(resp.Body)
		return err == nil && string(page) == "served\n"
	})
	gateway := strings.TrimSpace(e.command(t, "inspect", "--format", "{{.NetworkSettings.Gateway}}", "web").Output())
	if o := e.command(t, "exec", "web", "ping", "-c", "1", "-W", "30", gateway).Run(); o.Code != 0 {
		t.Errorf("ping of the gateway: %v", o)
	}
	shows := func() string { return e.command(t, "exec", "web", "ip", "-o", "addr").Output() }
	e.command(t, "network", "create", "--subnet", "10.92.0.0/24", "second").Output()
	e.command(t, "network", "connect", "--ip", "10.92.0.7", "second", "web").Output()
	command.Eventually(t, "the second network is there", func() bool { return strings.Contains(shows(), "eth1    inet 10.92.0.7/24") })
	e.command(t, "exec", "web", "ping", "-c", "1", "-W", "30", "10.92.0.1").Output()
	e.command(t, "network", "disconnect", "second", "web").Output()
	command.Eventually(t, "the second network is gone", func() bool { return !strings.Contains(shows(), "eth1") })
	e.command(t, "rm", "--force", "--time", "0", "web").Output()
	e.command(t, "network", "rm", "second").Output()
}
