package kubernetes

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const idle = "containers: [{name: main, image: IMAGE, resources: {requests: {cpu: 1m, memory: 1Mi}, limits: {memory: 32Mi}}}]\n"

// TestRestartOfDaemons has pods that do not notice when kubelet and containerd are
// killed and come back, and can be entered and deleted then.
func TestRestartOfDaemons(t *testing.T) {
	each(t, func(s *space) {
		s.pod("p", idle)
		s.ready("p")
		boot := s.run("p", "cat /proc/sys/kernel/random/boot_id; cat /proc/uptime >/tmp/mark")
		for _, daemon := range []string{"kubelet", "containerd"} {
			if err := s.node.Restart(daemon, unix.SIGKILL); err != nil {
				s.Fatal(err)
			}
			s.eventually("exec after restart of "+daemon, func() error {
				got, err := s.try("exec", "p", "--", "sh", "-c", "cat /tmp/mark >/dev/null && cat /proc/sys/kernel/random/boot_id")
				if err == nil && got != boot {
					err = fmt.Errorf("another machine: %q, before %q", got, boot)
				}
				return err
			})
			s.ready("p")
		}
		s.expect("restarts", s.get("pod/p", ".status.containerStatuses[0].restartCount"), "0")
		s.kubectl("delete", "pod", "p", "--timeout="+patience.String())
	})
}

// TestKilledMachine has kubelet start a pod anew whose machine is killed.
func TestKilledMachine(t *testing.T) {
	s := newSpace(t, "microvm")
	s.pod("p", idle)
	s.ready("p")
	before := s.run("p", "cat /proc/sys/kernel/random/boot_id")
	killMachine(s, "p")
	s.eventually("another machine", func() error {
		got, err := s.try("exec", "p", "--", "cat", "/proc/sys/kernel/random/boot_id")
		if err == nil && got == before {
			err = fmt.Errorf("still the same")
		}
		return err
	})
	s.ready("p")
	s.kubectl("delete", "pod", "p", "--timeout="+patience.String())
}

// killMachine kills the process of a pod's machine, which is its sandbox's.
func killMachine(s *space, pod string) {
	s.Helper()
	id, err := s.node.Crictl("pods", "--namespace", s.name, "--name", pod, "--quiet")
	if err != nil {
		s.Fatal(err)
	}
	text, err := s.node.Crictl("inspectp", "--output", "go-template", "--template", "{{.info.pid}}", strings.TrimSpace(id))
	if err != nil {
		s.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(text))
	if err == nil {
		err = unix.Kill(pid, unix.SIGKILL)
	}
	if err != nil {
		s.Fatalf("kill machine of %s: process %q: %v", pod, text, err)
	}
}

// TestThirtyPods are there at once, and gone.
func TestThirtyPods(t *testing.T) {
	s := newSpace(t, "microvm")
	for i := range 30 {
		s.pod(fmt.Sprintf("p%d", i), idle)
	}
	for i := range 30 {
		s.wait(fmt.Sprintf("pod/p%d", i), "condition=Ready")
	}
	s.kubectl("delete", "pods", "--all", "--grace-period=1", "--timeout="+patience.String())
}
