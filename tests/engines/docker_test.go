package engines

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/microvm/microvm/tests/command"
)

// newDocker starts a daemon whose default runtime is microvm.
func newDocker(t *testing.T) *engine {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "daemon.json")
	data, err := json.Marshal(map[string]any{
		"runtimes":        map[string]any{"microvm": map[string]any{"path": runtimePath(), "runtimeArgs": []string{"--machine", machine}}},
		"default-runtime": "microvm",
		"data-root":       filepath.Join(dir, "data"), "exec-root": filepath.Join(dir, "exec"), "pidfile": filepath.Join(dir, "pid"),
		"hosts": []string{"unix://" + filepath.Join(dir, "sock")}, "storage-driver": "vfs", "bridge": "none", "iptables": false,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, data, 0o600); err != nil {
		t.Fatal(err)
	}
	log := startDaemon(t, dir, config)
	e := &engine{name: "docker", args: []string{"/usr/bin/docker", "--config", dir, "--host", "unix://" + filepath.Join(dir, "sock")}}
	command.Eventually(t, "dockerd answers", func() bool { return e.command(t, "info").Run().Code == 0 })
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(log)
			t.Logf("end of dockerd's log: %s", text[max(0, len(text)-4096):])
		}
	})
	e.command(t, "import", rootfs, image).Output()
	return e
}

func startDaemon(t *testing.T, dir, config string) (log string) {
	t.Helper()
	log = filepath.Join(dir, "log")
	f, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	daemon := exec.Command("dockerd", "--config-file", config)
	daemon.Stdout, daemon.Stderr = f, f
	if err := daemon.Start(); err != nil {
		t.Fatalf("%v: apt-get install docker.io", err)
	}
	t.Cleanup(func() {
		_ = daemon.Process.Signal(os.Interrupt)
		stop := time.AfterFunc(time.Minute, func() { _ = daemon.Process.Kill() })
		_ = daemon.Wait()
		stop.Stop()
	})
	return log
}

func TestDocker(t *testing.T) {
	e := newDocker(t)
	testEngine(t, e)
	t.Run("health", func(t *testing.T) {
		e.container(t, "--detach", "--name", "healthy", "--health-cmd", "test -e /tmp/well", "--health-interval", "1s", image, "sh", "-c", "touch /tmp/well; sleep 1000").Output()
		command.Eventually(t, "the container is healthy", func() bool {
			return strings.TrimSpace(e.command(t, "inspect", "--format", "{{.State.Health.Status}}", "healthy").Output()) == "healthy"
		})
		e.command(t, "rm", "--force", "healthy").Output()
	})
	t.Run("build", func(t *testing.T) {
		t.Setenv("DOCKER_BUILDKIT", "0") // BuildKit calls runc itself
		e.command(t, "build", "--network", "none", "--tag", "built", buildContext(t)).Output()
		builtOutput(t, e)
	})
}
