package task

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/netns"
	"github.com/microvm/microvm/runtime/anchor"
	"github.com/microvm/microvm/runtime/bundle"
)

// stand is what stands on the host for a container that shares its machine with
// others of its pod: a thread of the shim, which costs next to nothing. Its id is the
// container's pid on the host. Who means a container by that (CRI, of which
// processes a container of `kubectl debug --target` shares) means no other, and who
// looks into it finds the pod's network namespace, and in its mount namespace the
// container's root file system.
type stand struct {
	id   int
	home chan *os.File // the mount namespace to which it goes back at its end
	gone chan error
}

// newStand makes one for the container of a bundle, in the network namespace of the
// process machine.
func newStand(b *bundle.Bundle, machine int) (*stand, error) {
	s, ready := &stand{home: make(chan *os.File), gone: make(chan error)}, make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		s.id = unix.Gettid()
		err := netns.Enter(fmt.Sprintf("/proc/%d/ns/net", machine))
		if err == nil {
			err = anchor.EnterRoot(anchor.Mount{Source: b.Rootfs(), ReadOnly: b.Spec.Root.Readonly}, b.Shown())
		}
		if ready <- err; err == nil {
			s.gone <- unix.Setns(int((<-s.home).Fd()), unix.CLONE_NEWNS)
		}
	}()
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("stand for the container on the host: %w", err)
	}
	return s, nil
}

// leave ends it; nothing that it has shown is in use then. It is to be called once;
// nil is none.
func (s *stand) leave() error {
	if s == nil {
		return nil
	}
	home, err := os.Open("/proc/self/ns/mnt")
	if err != nil {
		return fmt.Errorf("open the shim's mount namespace: %w", err)
	}
	s.home <- home
	return errors.Join(<-s.gone, home.Close())
}

// pid is that of what stands for the container on the host: its own stand, or its
// machine.
func (t *task) pid() uint32 {
	if t.stand != nil {
		return uint32(t.stand.id)
	}
	return t.machine.pid()
}

// stands are the pids of all stands of the pod.
func (s *Service) stands() (pids []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.containers {
		if t.stand != nil {
			pids = append(pids, t.stand.id)
		}
	}
	return pids
}

// standFor is the container with that stand, nil without one.
func (s *Service) standFor(pid int) *task {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.containers {
		if t.stand != nil && t.stand.id == pid {
			return t
		}
	}
	return nil
}
