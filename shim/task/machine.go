package task

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/containerd/log"
	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/netns"
	"github.com/microvm/microvm/runtime/cgroup"
	"github.com/microvm/microvm/runtime/container"
	"github.com/microvm/microvm/runtime/sandbox"
	"github.com/microvm/microvm/runtime/state"
)

// Files of a machine in its bundle.
const (
	socketFile = "vsock.sock"
	recordFile = "machine.json"
)

// machine is a running machine and its place on the host.
type machine struct {
	vm     *sandbox.VM
	memory uint64 // in bytes
	dir    string // the bundle with its record
	net    *container.Network

	mu     sync.Mutex
	cgroup *cgroup.Cgroup // nil without one
	ending bool           // its end is wished for
}

// record is what is left to find when the shim is gone.
type record struct {
	VM     state.Process  `json:"vm"`
	Cgroup *cgroup.Record `json:"cgroup,omitempty"`
}

func (m *machine) pid() uint32 { return uint32(m.vm.PID()) }

// launch starts the machine of a blueprint; its guest boots.
func launch(ctx context.Context, b *container.Blueprint) (m *machine, err error) {
	m = &machine{dir: b.Bundle.Dir, memory: b.Machine.Memory}
	b.Machine.Socket = filepath.Join(m.dir, socketFile)
	b.Machine.Timeline = sandbox.NewTimeline(sandbox.Now())
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
	m.cgroup, err = cgroup.New(b.Machine.ID, b.Bundle.CgroupsPath(), false)
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
		m.vm, err = sandbox.Launch(b.Machine)
		return err
	})
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

func (m *machine) save(r record) error {
	if m.cgroup != nil {
		c := m.cgroup.Record()
		r.Cgroup = &c
	}
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode machine's record: %w", err)
	}
	path := filepath.Join(m.dir, recordFile)
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return fmt.Errorf("write machine's record: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write machine's record: %w", err)
	}
	return nil
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
	m.ending = true
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

// Clean removes what is left of the machine that was recorded in the bundle
// dir, and returns the pid that its VM process had, 0 if there was none.
func Clean(ctx context.Context, dir string) (pid int, err error) {
	data, err := os.ReadFile(filepath.Join(dir, recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	var r record
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		return 0, fmt.Errorf("read machine's record: %w", err)
	}
	if r.VM.PID != 0 && r.VM.Alive() {
		if err := r.VM.Signal(unix.SIGKILL); err == nil {
			_ = r.VM.Wait(ctx) // its cgroup says if it is still there
		}
	}
	if r.Cgroup == nil {
		return r.VM.PID, nil
	}
	return r.VM.PID, r.Cgroup.Remove()
}
