package kubernetes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/tests/lab"
)

// TestMachineOnKVM has a pod that wants it in a machine whose processor is KVM's,
// where there is KVM, and else tells it what is missing.
func TestMachineOnKVM(t *testing.T) {
	s := newSpace(t, "microvm")
	s.annotated("p", "io.microvm.machine: kvm", idle)
	if missing := lab.CheckHardware(); missing != nil {
		s.event("p", "FailedCreatePodSandBox", "kvm was asked for, but ")
		return
	}
	s.ready("p")
	if files := openFiles(machine(s, "p")); !slices.Contains(files, "anon_inode:kvm-vcpu:0") {
		s.Errorf("the machine's process has no processor of KVM's: %q", files)
	}
	s.expect("it", s.run("p", "echo works"), "works")
}

// openFiles are what the descriptors of a process lead to.
func openFiles(pid int) (all []string) {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil {
			all = append(all, to)
		}
	}
	return all
}

// TestInstallation takes the runtime off the node and the cluster when its pods are
// gone, which a pod of runc's does not notice, and puts it back, which one that waits
// for it does.
func TestInstallation(t *testing.T) {
	s := newSpace(t, "microvm")
	runc := *s
	runc.class = "runc"
	runc.pod("other", idle)
	s.pod("p", idle)
	s.ready("other")
	s.ready("p")
	t.Cleanup(func() { s.must(s.node.AddClasses, s.install) }) // wherever the test has ended
	s.kubectl("delete", "runtimeclass", "microvm")
	s.kubectl("delete", "pod", "p", "--timeout="+patience.String())
	s.must(s.node.Uninstall, s.restart)
	if left, err := filepath.Glob(filepath.Join(s.node.Dir, "usr", "*", "*")); err != nil || len(left) > 0 {
		s.Errorf("left of the runtime's files: %q, %v", left, err)
	}
	s.must(s.node.AddClasses)
	s.pod("waits", idle)
	s.event("waits", "FailedCreatePodSandBox", `no runtime for "microvm"`)
	s.must(s.install)
	s.ready("waits")
	s.expect("restarts of the other", s.get("pod/other", ".status.containerStatuses[0].restartCount"), "0")
}

// install is what the README has an administrator do on a node.
func (s *space) install() error { return errors.Join(s.node.Install(), s.restart()) }

func (s *space) restart() error { return s.node.Restart("containerd", unix.SIGTERM) }

// must takes steps, each of which has to work.
func (s *space) must(steps ...func() error) {
	s.Helper()
	for _, do := range steps {
		if err := do(); err != nil {
			s.Fatal(err)
		}
	}
}
