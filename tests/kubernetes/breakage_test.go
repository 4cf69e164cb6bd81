package kubernetes

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/tests/kubernetes/node"
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

// killMachine kills the process of a pod's machine.
func killMachine(s *space, pod string) {
	s.Helper()
	if err := unix.Kill(machine(s, pod), unix.SIGKILL); err != nil {
		s.Fatalf("kill machine of %s: %v", pod, err)
	}
}

// machine is the process of a pod's, which is its sandbox's.
func machine(s *space, pod string) int {
	s.Helper()
	text, err := s.node.Crictl("inspectp", "--output", "go-template", "--template", "{{.info.pid}}", sandbox(s, pod))
	if err != nil {
		s.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		s.Fatalf("process of the machine of %s: %q", pod, text)
	}
	return pid
}

// sandbox is the id of a pod's.
func sandbox(s *space, pod string) string {
	s.Helper()
	id, err := s.node.Crictl("pods", "--namespace", s.name, "--name", pod, "--quiet")
	if err != nil {
		s.Fatal(err)
	}
	return strings.TrimSpace(id)
}

// TestKilledShim has kubelet start a pod anew whose shim is killed.
func TestKilledShim(t *testing.T) {
	each(t, func(s *space) {
		s.pod("p", idle)
		s.ready("p")
		before := s.get("pod/p", ".status.containerStatuses[0].containerID")
		shims := s.node.Shims(sandbox(s, "p"))
		if len(shims) != 1 {
			s.Fatalf("shims of the pod: %v", shims)
		}
		if err := unix.Kill(shims[0], unix.SIGKILL); err != nil {
			s.Fatal(err)
		}
		s.eventually("another container", func() error {
			now, err := s.try("get", "pod/p", "-o", "jsonpath={.status.containerStatuses[0].containerID}")
			if err == nil && now == before {
				err = fmt.Errorf("still the same")
			}
			return err
		})
		s.ready("p")
		s.expect("it", s.run("p", "echo works"), "works")
		s.kubectl("delete", "pod", "p", "--timeout="+patience.String())
	})
}

// TestMemoryPressure evicts pods when the node says that it is short of memory, and
// says why.
func TestMemoryPressure(t *testing.T) {
	each(t, func(s *space) {
		s.pod("p", "restartPolicy: Never\n"+idle)
		s.ready("p")
		restore, err := s.node.Amend("kubelet", "evictionSoft: {memory.available: 99%}\nevictionSoftGracePeriod: {memory.available: 1s}\nevictionMaxPodGracePeriod: 5\nevictionPressureTransitionPeriod: 1s\n")
		if err != nil {
			s.Fatal(err)
		}
		defer func() {
			if err := restore(); err != nil {
				s.Error(err)
			}
			s.wait("node/"+node.Name, "condition=MemoryPressure=false")
		}()
		s.becomes("pod/p", ".status.reason", "Evicted")
		s.becomes("pod/p", ".status.phase", "Failed")
		if got := s.get("pod/p", ".status.message"); !strings.Contains(got, "memory") {
			s.Errorf("message: %q", got)
		}
	})
}

// TestThirtyPods are there at once, and gone.
func TestThirtyPods(t *testing.T) {
	each(t, func(s *space) {
		names := numbered("p", 30)
		s.pods(names, idle)
		for _, name := range names {
			s.ready(name)
		}
		s.kubectl("delete", "pods", "--all", "--grace-period=1", "--timeout="+patience.String())
		s.eventually("nothing is left", func() error {
			if left := s.node.Shims(""); len(left) > 0 {
				return fmt.Errorf("shims: %v", left)
			}
			return nil
		})
	})
}
