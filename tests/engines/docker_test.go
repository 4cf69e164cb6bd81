package engines

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/microvm/microvm/netns"
	"github.com/microvm/microvm/tests/command"
	"github.com/microvm/microvm/tests/lab/labtest"
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
		"hosts": []string{"unix://" + filepath.Join(dir, "sock")}, "storage-driver": "vfs",
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
	// Its bridge and rules stay in a namespace of the test's.
	newNamespace(t)
	daemon := exec.Command("nsenter", "--net="+namespace, "dockerd", "--config-file", config)
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
		labtest.SameOnBoth(t)
		e.container(t, "--detach", "--name", "healthy", "--health-cmd", "test -e /tmp/well", "--health-interval", "1s", image, "sh", "-c", "touch /tmp/well; sleep 1000").Output()
		command.Eventually(t, "the container is healthy", func() bool {
			return strings.TrimSpace(e.command(t, "inspect", "--format", "{{.State.Health.Status}}", "healthy").Output()) == "healthy"
		})
		e.command(t, "rm", "--force", "healthy").Output()
	})
	t.Run("network", func(t *testing.T) { testDockerNetwork(t, e) })
	t.Run("build", func(t *testing.T) {
		labtest.SameOnBoth(t)
		t.Setenv("DOCKER_BUILDKIT", "0") // BuildKit calls runc itself
		e.command(t, "build", "--network", "none", "--tag", "built", buildContext(t)).Output()
		builtOutput(t, e)
	})
}

// namespace is the path of the network namespace that is the host's to docker.
var namespace = fmt.Sprintf("/run/netns/engines-%d", os.Getpid())

func newNamespace(t *testing.T) {
	t.Helper()
	name := filepath.Base(namespace)
	command.New(t, "ip", "netns", "add", name).Output()
	t.Cleanup(func() { command.New(t, "ip", "netns", "del", name).Output() })
	command.New(t, "ip", "-n", name, "link", "set", "lo", "up").Output()
}

// testDockerNetwork uses docker's default network, and one that the container
// joins and leaves while it runs.
func testDockerNetwork(t *testing.T, e *engine) {
	e.command(t, "run", "--detach", "--name", "web", "--cap-add", "net_raw", image, "sleep", "1000").Output()
	gateway := strings.TrimSpace(e.command(t, "inspect", "--format", "{{.NetworkSettings.Gateway}}", "web").Output())
	if o := e.command(t, "exec", "web", "ping", "-c", "1", "-W", "30", gateway).Run(); o.Code != 0 {
		t.Errorf("ping of the gateway: %v", o)
	}
	shows := func() string { return e.command(t, "exec", "web", "ip", "-o", "addr").Output() }
	e.command(t, "network", "create", "--subnet", "10.91.0.0/24", "second").Output()
	e.command(t, "network", "connect", "--ip", "10.91.0.7", "second", "web").Output()
	command.Eventually(t, "the second network is there", func() bool { return strings.Contains(shows(), "eth1    inet 10.91.0.7/24") })
	e.command(t, "network", "disconnect", "second", "web").Output()
	command.Eventually(t, "the second network is gone", func() bool { return !strings.Contains(shows(), "eth1") })
	beside := e.command(t, "run", "--rm", "--network", "container:web", "--pid", "container:web", image, "sh", "-c", "ip -o addr; ps")
	if got := beside.Output(); !strings.Contains(got, "eth0    inet 172.") || !strings.Contains(got, "sleep 1000") {
		t.Errorf("a container in the machine of another: %q", got)
	}
	e.command(t, "rm", "--force", "web").Output()
	testDockerNames(t, e)
	testDockerPort(t, e)
}

// testDockerPort reaches a port that docker has published on its host.
func testDockerPort(t *testing.T, e *engine) {
	e.command(t, "run", "--detach", "--name", "published", "--publish", "127.0.0.1::80", image, "sh", "-c", serve).Output()
	published := strings.TrimSpace(e.command(t, "port", "published", "80").Output())
	command.Eventually(t, "the published port answers", func() bool {
		page, err := pageInside(published)
		return err == nil && strings.HasSuffix(page, "\r\n\r\nserved\n")
	})
	e.command(t, "rm", "--force", "published").Output()
}

// pageInside is what a web server says to who is in docker's network namespace.
func pageInside(address string) (page string, err error) {
	ns, err := netns.Open(namespace)
	if err != nil {
		return "", err
	}
	defer ns.Close()
	err = ns.Do(func() error {
		c, err := net.DialTimeout("tcp", address, 10*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET / HTTP/1.0\r\n\r\n"); err != nil {
			return err
		}
		all, err := io.ReadAll(c)
		page = string(all)
		return err
	})
	return page, err
}

// testDockerNames finds a container by its name, which docker serves on the
// loopback interface in networks that users make.
func testDockerNames(t *testing.T, e *engine) {
	e.command(t, "run", "--detach", "--network", "second", "--ip", "10.91.0.8", "--name", "server", image, "sleep", "1000").Output()
	for _, question := range []string{"nslookup -type=a server", "wget -q -O - http://server:81/ 2>&1"} {
		o := e.command(t, "run", "--rm", "--network", "second", image, "sh", "-c", "cat /etc/resolv.conf; "+question).Run()
		if !strings.Contains(o.Stdout, "127.0.0.11") || !strings.Contains(o.Stdout, "10.91.0.8") {
			t.Errorf("%s: %v", question, o)
		}
	}
	e.command(t, "rm", "--force", "server").Output()
}
