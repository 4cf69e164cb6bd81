package container

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"

	"github.com/microvm/microvm/runtime/cgroup"
	"github.com/microvm/microvm/runtime/sandbox"
	"github.com/microvm/microvm/runtime/state"
	"github.com/microvm/microvm/vmm/control"
)

// What the processes around a guest take besides its memory, in bytes. Measured
// as the most that any of them had outside the guest's memory while the guest
// wrote, read and listed 500 MiB in thousands of files: 14 MiB in monitor and
// VM process and 7 to 13 in the kernel; the rest is page cache of the files that
// the guest uses. QEMU had 77 more, and may fill its translation cache.
const (
	processOverhead  = 64 << 20
	softwareOverhead = processOverhead + (64+256)<<20
)

// machineMemory is what a machine with so many bytes takes of the host.
func machineMemory(machine string, guest uint64) uint64 {
	if machine == control.MachineKVM {
		return guest + processOverhead
	}
	return guest + softwareOverhead
}

// findCgroup chooses the machine's cgroup on the host. A host that has none for
// us is no error: the container's limits hold in the guest.
func (s *supervisor) findCgroup(context.Context) error {
	c, err := cgroup.New(s.request.ID, s.design.bundle.CgroupsPath(), s.engine.SystemdCgroup)
	if err = s.tolerate(err); err == nil {
		s.cgroup = c
	}
	return err
}

// tolerate logs that the host's cgroups are not usable: a warning, if they were
// asked for.
func (s *supervisor) tolerate(err error) error {
	if !errors.Is(err, cgroup.ErrUnusable) {
		return err
	}
	level := logrus.DebugLevel
	if b := s.design.bundle; b.CgroupsPath() != "" || cgroup.Limits(b.Resources()) {
		level = logrus.WarnLevel
	}
	s.engine.log(s.request.ID).WithError(err).Log(level, "the machine is not limited on the host; the container's limits hold in the guest")
	return nil
}

// joinCgroup moves the monitor into the cgroup, for the machine to inherit it.
// All limits but the CPU's quota hold at once.
func (s *supervisor) joinCgroup(context.Context) error {
	if s.cgroup == nil {
		return nil
	}
	if err := s.cgroup.Join(); err != nil {
		s.cgroup = nil
		return s.tolerate(err)
	}
	s.undo.add(func() {
		if err := errors.Join(s.cgroup.Leave(), s.cgroup.Remove()); err != nil {
			s.engine.log(s.request.ID).WithError(err).Warn("the machine's cgroup is left")
		}
	})
	r := cgroup.Resources(s.design.bundle.Resources(), cgroup.Machine{Memory: machineMemory(s.design.machine.Machine, s.design.machine.Memory)})
	r.CpuQuota, r.CpuPeriod, r.CpuBurst = 0, 0, nil
	return s.limit(r)
}

func (s *supervisor) limit(r *cgroups.Resources) error {
	return s.engine.limit(s.request.ID, s.cgroup, r)
}

// limit sets limits of a machine's cgroup; a warning names each that this host
// cannot hold.
func (e *Engine) limit(id string, c *cgroup.Cgroup, r *cgroups.Resources) error {
	var hard []error
	for _, err := range c.Limit(r) {
		if !errors.Is(err, cgroup.ErrUnusable) {
			hard = append(hard, err)
			continue
		}
		e.log(id).WithError(err).Warn("this limit does not hold on the host")
	}
	return errors.Join(hard...)
}

// limitCPU sets the CPU's quota when the guest is up: booting is no work of the
// container's, and a small quota would stretch it to minutes.
func (s *supervisor) limitCPU(context.Context) error {
	r := s.design.bundle.Resources()
	if s.cgroup == nil || r == nil || r.CPU == nil {
		return nil
	}
	quota := &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: r.CPU.Quota, Period: r.CPU.Period, Burst: r.CPU.Burst}}
	return s.limit(cgroup.Resources(quota, cgroup.Machine{}))
}

// blameHost adds to a machine's end that the host's kernel killed it for its
// memory.
func (s *supervisor) blameHost(err error) error {
	if s.cgroup == nil || !errors.Is(err, sandbox.ErrMachine) || !s.cgroup.OOMKilled() {
		return err
	}
	return fmt.Errorf("%s: %w", HostOutOfMemory(s.cgroup), err)
}

// blameHost does so with the end of a container's monitor.
func (e *Engine) blameHost(id string, err error) error {
	s, lerr := e.Store.Load(id)
	if lerr != nil || s.Cgroup == nil {
		return err
	}
	if c, oerr := cgroup.Open(*s.Cgroup); oerr == nil && c.OOMKilled() {
		return fmt.Errorf("%s: %w", HostOutOfMemory(c), err)
	}
	return err
}

// HostOutOfMemory says why the host's kernel killed something in c, and what to do.
func HostOutOfMemory(c *cgroup.Cgroup) string {
	raise := "raise the limit of the cgroups around it"
	if limit := c.MemoryLimit(); limit != 0 {
		raise = fmt.Sprintf("raise its limit of %d bytes", limit)
	}
	return "the host's kernel killed the machine, whose cgroup was out of memory: " + raise +
		", or give the container a smaller linux.resources.memory.limit, which makes a smaller machine"
}

// limitMachine applies changed resources of a running container to its machine's
// cgroup on the host. A machine keeps at least the size
// that it has, and with it the host's limit of a limited container's memory. Without a cgroup there is nothing to do.
func (e *Engine) limitMachine(s *state.State, r *specs.LinuxResources) error {
	if s.Cgroup == nil {
		return nil
	}
	c, err := cgroup.Open(*s.Cgroup)
	if err != nil {
		return err
	}
	return e.limit(s.ID, c, cgroup.Resources(r, cgroup.Machine{Memory: machineMemory(s.Machine, s.Memory+s.Grown)}))
}

// removeCgroup removes what is recorded in s.
func removeCgroup(s *state.State) error {
	if s.Cgroup == nil {
		return nil
	}
	return s.Cgroup.Remove()
}

// dropStale removes the cgroup of a container whose place another takes.
func (e *Engine) dropStale(s *state.State) {
	if err := removeCgroup(s); err != nil {
		e.log(s.ID).WithError(err).Warn("the cgroup of an earlier container with this id is left")
	}
}
