package shim

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/microvm/microvm/tests/command"
)

// TestUserNamespaceOfPod has a pod whose root is nobody on the host (hostUsers:
// false). containerd knows such pods for as long as sandboxes, and has them with
// handlers that have no options.
func TestUserNamespaceOfPod(t *testing.T) {
	for _, d := range daemons {
		if !slices.Contains(d.handlers, sandboxed) {
			continue
		}
		for _, handler := range []string{"plain", "plainsandboxed"} {
			withPods(t, d, handler, func(t *testing.T, p pods) { p.haveUserNamespaces() })
		}
	}
}

func (p pods) haveUserNamespaces() {
	t := p.t
	t.Helper()
	const host, port = 231072, "net.ipv4.ip_unprivileged_port_start"
	ids := []object{{"host_id": host, "container_id": 0, "length": 65536}}
	with := func(linux object, pid int) object {
		return withNamespaces(linux, object{"network": ofPod, "pid": pid, "userns_options": object{"mode": ofPod, "uids": ids, "gids": ids}})
	}
	one := p.podWith(with(object{"sysctls": object{port: "77", "kernel.shmmax": "123456789"}}, ofSelf))
	volume := object{"host_path": t.TempDir(), "container_path": "/volume"}
	if err := os.Chmod(volume["host_path"].(string), 0o777); err != nil {
		t.Fatal(err)
	}
	a := one.containerWith("sleep 1111 & mkdir /www; echo hello >/www/index.html; exec httpd -f -p 80 -h /www", with(nil, ofPod), volume)
	b := one.container(idle, with(nil, ofPod))
	c := one.container(idle, with(nil, ofSelf))
	for _, id := range []string{a, b, c} {
		if got := strings.Fields(p.in(id, "cat", "/proc/self/uid_map")); !slices.Equal(got, []string{"0", "231072", "65536"}) {
			t.Errorf("ids: %v", got)
		}
		for _, kind := range []string{"user", "ipc", "uts", "net"} {
			if ns := "/proc/self/ns/" + kind; p.in(a, "readlink", ns) != p.in(id, "readlink", ns) {
				t.Errorf("%s differs", ns)
			}
		}
	}
	if got := p.in(b, "ps"); !strings.Contains(got, "sleep 1111") {
		t.Errorf("processes are not shared: %s", got)
	}
	if got := p.in(c, "ps"); strings.Contains(got, "sleep 1111") {
		t.Errorf("processes are shared with one of its own: %s", got)
	}
	if got := p.in(b, "hostname"); got != "pod-host" {
		t.Errorf("hostname %s", got)
	}
	if got := p.in(b, "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/sys/kernel/shmmax"); got != "77\n123456789" {
		t.Errorf("settings %q", got)
	}
	p.in(a, "sh", "-c", "echo shared >/dev/shm/file && touch /volume/file && mkdir /mine")
	if got := p.in(c, "cat", "/dev/shm/file"); got != "shared" {
		t.Errorf("/dev/shm: %q", got)
	}
	st, err := os.Stat(filepath.Join(volume["host_path"].(string), "file"))
	if err != nil || st.Sys().(*syscall.Stat_t).Uid != host {
		t.Errorf("root's file on the host: %v, %+v", err, st)
	}
	if got := p.in(c, "wget", "-q", "-O", "-", "http://127.0.0.1/"); got != "hello" {
		t.Errorf("over the pod's loopback interface: %q", got)
	}
	command.Eventually(t, "the server answers the host", func() bool { return p.answers(one, "hello\n") })
	p.forwards(one, "80", "hello\n")
}
