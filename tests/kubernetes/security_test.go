package kubernetes

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSecurityContext has the users, groups, capabilities and so on that a pod and
// its containers say.
func TestSecurityContext(t *testing.T) {
	each(t, func(s *space) {
		s.pod("p", `
securityContext:
  runAsUser: 1000
  runAsGroup: 2000
  fsGroup: 3000
  supplementalGroups: [4000]
  seccompProfile: {type: RuntimeDefault}
  sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: "81"}, {name: kernel.shm_rmid_forced, value: "1"}]
volumes: [{name: data, emptyDir: {}}]
containers:
- name: main
  image: IMAGE
  securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
  volumeMounts: [{name: data, mountPath: /data}]
- name: net
  image: IMAGE
  securityContext: {runAsUser: 0, capabilities: {add: [NET_ADMIN], drop: [CHOWN]}}
`)
		s.ready("p")
		s.expect("ids", s.run("p", "id -u; id -g; id -G"), "1000\n2000\n2000 3000 4000")
		s.expect("volume", s.run("p", "echo x >/data/x; stat -c '%u:%g' /data/x; stat -c %g /data"), "1000:3000\n3000")
		s.expect("root file system", s.run("p", "touch /tmp/x 2>/dev/null || echo refused"), "refused")
		s.expect("confinement", s.run("p", "grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t'"), "CapEff:0000000000000000\nNoNewPrivs:1\nSeccomp:2")
		s.expect("sysctls", s.run("p", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced"), "81\n1")
		in := func(script string) string { return s.kubectl("exec", "p", "-c", "net", "--", "sh", "-c", script) }
		s.expect("with NET_ADMIN", in("ip link add name br0 type bridge 2>/dev/null; ip addr add 192.0.2.1/24 dev lo && echo may"), "may")
		s.expect("without CHOWN", in("touch /tmp/x; chown 5:5 /tmp/x 2>/dev/null || echo refused"), "refused")
	})
}

// TestPrivileged may do in its machine what it may on a host with runc.
func TestPrivileged(t *testing.T) {
	each(t, func(s *space) {
		s.pod("p", `
containers: [{name: main, image: IMAGE, securityContext: {privileged: true}}]
`)
		s.ready("p")
		s.expect("mount", s.run("p", "mkdir /mnt/t && mount -t tmpfs none /mnt/t && echo may"), "may")
		s.expect("seccomp", s.run("p", "grep ^Seccomp: /proc/self/status | tr -d '\\t'"), "Seccomp:0")
	})
}

// TestNonRoot refuses an image whose user is root where the pod forbids it.
func TestNonRoot(t *testing.T) {
	each(t, func(s *space) {
		s.pod("p", `
securityContext: {runAsNonRoot: true}
containers: [{name: main, image: IMAGE}]
`)
		s.becomes("pod/p", ".status.containerStatuses[0].state.waiting.reason", "CreateContainerConfigError")
	})
}

// TestRefusals tells in an event what a machine of its own cannot share with the
// host. With runc these pods run.
func TestRefusals(t *testing.T) {
	s := newSpace(t, "microvm")
	for _, field := range []string{"hostNetwork", "hostPID", "hostIPC"} {
		name := strings.ToLower(field)
		s.pod(name, field+": true\ncontainers: [{name: main, image: IMAGE}]\n")
		s.event(name, "FailedCreatePodSandBox", field)
		s.kubectl("delete", "pod", name, "--wait=false")
	}
	s.pod("propagation", `
volumes: [{name: host, hostPath: {path: `+sharedMount(s)+`}}]
containers: [{name: main, image: IMAGE, securityContext: {privileged: true}, volumeMounts: [{name: host, mountPath: /host, mountPropagation: Bidirectional}]}]
`)
	s.event("propagation", "Failed", "mountPropagation")
}

// sharedMount makes a directory of the host from which mounts could propagate:
// containerd refuses others by itself.
func sharedMount(s *space) string {
	s.Helper()
	dir := s.TempDir()
	for _, flags := range []uintptr{unix.MS_BIND, unix.MS_SHARED} {
		if err := unix.Mount(dir, dir, "", flags, ""); err != nil {
			s.Fatal(err)
		}
	}
	s.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}
