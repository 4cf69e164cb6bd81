package task

import (
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/containerd/log"
	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/netns"
	"github.com/microvm/microvm/runtime/cgroup"
	"github.com/microvm/microvm/runtime/container"
	"github.com/microvm/microvm/runtime/sandbox"
	"github.com/microvm/microvm/runtime/state"
)

// socketFile is the machine's socket in its bundle.
const socketFile = "vsock.sock"

// machine is a running machine and its place on the host.
type machine struct {
	vm     *sandbox.VM
	chosen sandbox.Config   // what it was started as
	memory container.Memory // under the service's making
	dir    string           // the bundle with its record
	net    *container.Network
	shared sandbox.Shared // of a pod's containers; under the service's making

	mu      sync.Mutex
	cgroup  *cgroup.Cgroup // nil without one
	ending  bool           // its end is wished for
	starved string         // why the host's kernel killed it, if it did for want of memory
}

func (m *machine) pid() uint32 { return uint32(m.vm.PID()) }

// launch starts the machine of a blueprint; its guest boots.
func launch(ctx context.Context, b *container.Blueprint) (m *machine, err error) {
	m = &machine{dir: b.Bundle.Dir, memory: container.Memory{Start: b.Machine.Memory}}
	b.Machine.Socket = filepath.Join(m.dir, socketFile)
	b.Machine.Timeline = sandbox.NewTimeline(sandbox.Now())
	m.chosen = b.Machine
	if err := m.findCgroup(ctx, b); err != nil {
		return nil, err
	}
	if err = m.start(ctx, b); err != nil {
		m.removeCgroup(ctx)
		return nil, err
	}
	return m, nil
}

func (m *machine) findCgroup(ctx context.Context, b *container.Blueprint) (err error) {
	path := b.Bundle.CgroupsPath()
	m.cgroup, err = cgroup.New(b.Machine.ID, path, cgroup.OfSystemd(path))
	if errors.Is(err, cgroup.ErrUnusable) {
		log.G(ctx).WithError(err).Warn("the machine is not limited on the host; the container's limits hold in the guest")
		m.cgroup, err = nil, nil
	}
	return err
}

// start starts the VM process in the cgroup and the network namespace, and
// records both.
func (m *machine) start(ctx context.Context, b *container.Blueprint) error {
	if err := m.save(record{}); err != nil {
		return err
	}
	if m.cgroup != nil {
		if err := m.cgroup.Join(); err != nil {
			log.G(ctx).WithError(err).Warn("the machine is not limited on the host; the container's limits hold in the guest")
			m.cgroup = nil
		} else {
			defer func() {
				if err := m.cgroup.Leave(); err != nil {
					log.G(ctx).WithError(err).Warn("the shim stays in the machine's cgroup")
				}
			}()
		}
	}
	if err := m.launchIn(b.Bundle.Namespace(specs.NetworkNamespace), b); err != nil {
		m.net.Close()
		return err
	}
	vm, err := state.NewProcess(m.vm.PID())
	if err != nil {
		m.net.Close()
		return m.vm.End() // it died at once
	}
	if err := m.save(record{VM: vm}); err != nil {
		m.vm.Kill()
		m.net.Close()
		return err
	}
	return nil
}

// launchIn starts the VM process in the network namespace ns, nil for that of
// the host, of which the guest has a user-mode network at most.
func (m *machine) launchIn(ns *specs.LinuxNamespace, b *container.Blueprint) error {
	if ns == nil {
		m.net = container.NewUserNetwork(b.User, &b.Machine)
	}
	return inNetwork(ns, func() (err error) {
		if ns != nil {
			in, err := netns.Current()
			if err != nil {
				return err
			}
			if m.net, err = container.NewNetwork(in, ns.Path, &b.Machine); err != nil {
				return err
			}
		}
		b.Machine.Stand = ns != nil
		m.vm, err = sandbox.Launch(b.Machine)
		return err
	})
}

// connect gives the guest its network. The process of a user-mode one, which the shim
// starts from its own place, belongs beside the machine's.
func (m *machine) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, workGrace)
	defer cancel()
	if err := m.net.Connect(ctx, m.vm); err != nil {
		return err
	}
	pid := m.net.PID()
	if m.cgroup == nil || pid == 0 {
		return nil
	}
	return m.cgroup.Take(pid)
}

// inNetwork calls f on a thread in the network namespace ns, which ends with f.
func inNetwork(ns *specs.LinuxNamespace, f func() error) error {
	if ns == nil {
		return f()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is spoilt
		err := netns.Enter(ns.Path)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// limit sets the cgroup's limits, when the guest is up.
func (m *machine) limit(ctx context.Context, r *cgroups.Resources) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cgroup == nil {
		return
	}
	for _, err := range m.cgroup.Limit(r) {
		log.G(ctx).WithError(err).Warn("this limit does not hold on the host")
	}
}

// over tells whether the machine has ended.
func (m *machine) over() bool {
	select {
	case <-m.vm.Done():
		return true
	default:
		return false
	}
}

// expect says that the machine's end is wished for.
func (m *machine) expect() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.noteStarvation()
	m.ending = true
}

// starvation says why the host's kernel killed the machine for want of memory,
// "" if it did not. The machine has ended.
func (m *machine) starvation() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.noteStarvation()
	return m.starved
}

// noteStarvation has to be called before the cgroup goes. m.mu is held.
func (m *machine) noteStarvation() {
	if m.cgroup != nil && m.starved == "" && !m.ending && m.cgroup.OOMKilled() {
		m.starved = container.HostOutOfMemory(m.cgroup)
	}
}

// report logs why p went down with the machine, unless that was wished for.
func (m *machine) report(why error, p *process) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.ending {
		log.L.WithError(why).Errorf("process %s of container %s is lost", p.eventID(), p.id)
	}
}

// shutdown lets the guest write everything back and power off.
func (m *machine) shutdown(ctx context.Context) {
	m.expect()
	if !m.over() {
		if err := m.vm.Shutdown(context.WithoutCancel(ctx)); err != nil {
			log.G(ctx).WithError(err).Error("the guest may not have written everything back")
		}
	}
	m.net.Close()
	m.removeCgroup(ctx)
}

func (m *machine) kill() {
	m.expect()
	m.vm.Kill()
	m.net.Close()
	m.removeCgroup(context.Background())
}

func (m *machine) removeCgroup(ctx context.Context) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cgroup == nil {
		return
	}
	if err := m.cgroup.Remove(); err != nil {
		log.G(ctx).WithError(err).Warn("the machine's cgroup is left")
	}
	m.cgroup = nil
}

func (m *machine) agent() api.TaskService { return m.vm.Agent().Task }
