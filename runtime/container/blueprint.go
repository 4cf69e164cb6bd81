package container

import (
	"os"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/bundle"
	"github.com/microvm/microvm/runtime/cgroup"
	"github.com/microvm/microvm/runtime/network"
	"github.com/microvm/microvm/runtime/sandbox"
)

// Blueprint is what a bundle comes to, for a caller that keeps the machine
// itself and may put several containers into it.
type Blueprint struct {
	Bundle *bundle.Bundle
	Plan   *bundle.Plan
	// Machine fits the container, and has its exports.
	Machine sandbox.Config
	// User is the network of a container in the host's network namespace, nil
	// if it has none.
	User *network.User
}

// Blueprint reads the bundle in dir, chooses a machine for it and makes the
// mount points that the guest cannot make. The guest makes the root file system of
// the mounts root; without any, it is in the bundle's directory. prefix goes before
// the names of exports and disks. pod is zero for a machine of its own.
func (e *Engine) Blueprint(id, dir, prefix string, root []*api.Mount, pod bundle.Pod) (*Blueprint, error) {
	d, err := e.designInPod(id, dir, pod)
	if err != nil {
		return nil, err
	}
	if err := d.makeRoot(root); err != nil {
		return nil, err
	}
	d.plan.FreezeRoot(d.bundle)
	d.prefix(prefix)
	return &Blueprint{Bundle: d.bundle, Plan: d.plan, Machine: d.machine, User: d.user}, nil
}

// makeRoot makes in the root file system what the guest cannot make, or has the
// guest make it out of mounts.
func (d *design) makeRoot(mounts []*api.Mount) error {
	if len(mounts) == 0 {
		return d.prepareRoot()
	}
	if err := d.plan.AssembleRoot(mounts, os.Stat); err != nil {
		return err
	}
	if d.user != nil {
		nameServer(d.plan)
	}
	return nil
}

// HostLimits are what the machine's cgroup on the host is limited to.
// The machine has the memory m.
func (b *Blueprint) HostLimits(m Memory) *cgroups.Resources {
	return b.hostLimits(b.Bundle.Resources(), m)
}

func (b *Blueprint) hostLimits(r *specs.LinuxResources, m Memory) *cgroups.Resources {
	return cgroup.Resources(r, cgroup.Machine{Memory: machineMemory(b.Machine.Machine, m.Now())})
}

// Update splits changed limits of the container in what the agent and what the
// cgroup on the host is told of the machine, whose memory m is large enough.
func (b *Blueprint) Update(r *specs.LinuxResources, m Memory) (guest *specs.LinuxResources, host *cgroups.Resources, err error) {
	changed := *r
	changed.Devices = nil // CRI repeats those of the container, which stay
	if err := checkUpdate(&changed); err != nil {
		return nil, nil, err
	}
	return bundle.GuestResources(&changed), b.hostLimits(&changed, m), nil
}
