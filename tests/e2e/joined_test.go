package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/tests/command"
	"github.com/microvm/microvm/tests/lab/labtest"
)

// joining has a bundle join namespaces of the container whose pid is pid, as
// podman's pods and docker's --network container:NAME do.
func joining(pid int, kinds ...specs.LinuxNamespaceType) func(*specs.Spec) {
	files := map[specs.LinuxNamespaceType]string{
		specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts", specs.PIDNamespace: "pid",
	}
	return func(spec *specs.Spec) {
		for _, kind := range kinds {
			for i := range spec.Linux.Namespaces {
				if ns := &spec.Linux.Namespaces[i]; ns.Type == kind {
					ns.Path = fmt.Sprintf("/proc/%d/ns/%s", pid, files[kind])
				}
			}
		}
	}
}

// bound mounts the directory source at /shared.
func bound(source string) func(*specs.Spec) {
	return func(spec *specs.Spec) {
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/shared", Type: "bind", Source: source, Options: []string{"bind"}})
	}
}

func TestContainersInOneMachine(t *testing.T) {
	s := newSite(t)
	host, pid, _ := s.detached(s.bundle(sh("hostname of-the-pod; exec httpd -f -p 8080 -h /etc"), func(spec *specs.Spec) {
		spec.Process.Capabilities.Bounding = append(spec.Process.Capabilities.Bounding, "CAP_SYS_ADMIN")
		spec.Process.Capabilities.Effective = spec.Process.Capabilities.Bounding
		spec.Process.Capabilities.Permitted = spec.Process.Capabilities.Bounding
	}))
	all := joining(pid, specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace)
	command.Eventually(t, "the host name is set", func() bool { return s.command("exec", host, "hostname").Run().Stdout == "of-the-pod\n" })
	got := s.output(s.bundle(sh("hostname; wget -q -O - http://127.0.0.1:8080/passwd | head -n 1; ps"), all))
	if !strings.HasPrefix(got, "of-the-pod\nroot:") || strings.Contains(got, "httpd") {
		t.Errorf("%q", got)
	}
	got = s.output(s.bundle([]string{"ps"}, all, joining(pid, specs.PIDNamespace)))
	if !strings.Contains(got, "httpd") {
		t.Errorf("no processes of the other's: %q", got)
	}
	if o := s.command("check", "--sandbox", host).Run(); o.Code != 0 {
		t.Errorf("the machine after its guests: %v", o)
	}
}

// What a container in another's machine has can be used and taken away like any
// other's, and goes with it however it ends.
func TestLifeInAnothersMachine(t *testing.T) {
	s := newSite(t)
	shared := t.TempDir()
	host, pid, _ := s.detached(s.bundle(sh("sleep 1000")))
	all := joining(pid, specs.NetworkNamespace, specs.IPCNamespace, specs.PIDNamespace)
	id, tenant, _ := s.detached(s.bundle(sh("trap 'exit 7' TERM; echo ready > /shared/there; while true; do sleep 1; done"), all, bound(shared)))
	command.Eventually(t, "the container runs", func() bool {
		return s.command("exec", id, "cat", "/shared/there").Run().Stdout == "ready\n"
	})
	s.command("pause", id).Output()
	if got := s.command("exec", host, "echo", "runs").Output(); got != "runs\n" {
		t.Errorf("the other container: %q", got)
	}
	s.command("resume", id).Output()
	s.command("kill", id, "TERM").Output()
	if code := waitPid(t, tenant); code != 7 {
		t.Errorf("exit code %d", code)
	}
	s.command("delete", id).Output()

	id, tenant, _ = s.detached(s.bundle(sh("sleep 2000"), all, bound(shared)))
	if err := unix.Kill(tenant, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitPid(t, tenant)
	s.waitStatus(id, specs.StateStopped)
	command.Eventually(t, "its processes are gone", func() bool {
		return !strings.Contains(s.command("exec", host, "ps").Output(), "sleep 2000")
	})
	s.command("delete", id).Output()

	id, tenant, _ = s.detached(s.bundle(sh("sleep 3000"), all, bound(shared)))
	s.command("kill", host, "KILL").Output()
	if code := waitPid(t, tenant); code != 137 {
		t.Errorf("exit code after the machine's end: %d", code)
	}
	waitPid(t, pid)
	s.command("delete", id).Output()
	s.command("delete", host).Output()
}

func TestJoinsThatAreRefused(t *testing.T) {
	labtest.SameOnBoth(t)
	s := newSite(t)
	host, pid, _ := s.detached(s.bundle(sh("sleep 1000")))
	o := s.runBundle(s.bundle([]string{"true"}, joining(pid, specs.IPCNamespace)))
	if want := "container " + host + ", and with them its machine, but not its network"; o.Code == 0 || !strings.Contains(o.Stderr, want) {
		t.Errorf("another network: %v", o)
	}
	missing := bound(filepath.Join(s.dir, "missing"))
	if o := s.runBundle(s.bundle([]string{"true"}, joining(pid, specs.NetworkNamespace), missing)); o.Code == 0 {
		t.Error("a mount without a source")
	}
	s.command("delete", "--force", host).Output()
	o = s.runBundle(s.bundle([]string{"true"}, joining(1, specs.IPCNamespace)))
	if o.Code == 0 || !strings.Contains(o.Stderr, "/proc/1/ns/ipc is the host's") {
		t.Errorf("a namespace of the host: %v", o)
	}
}
