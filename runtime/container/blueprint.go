package container

import (
	"github.com/opencontainers/cgroups"

	"github.com/microvm/microvm/runtime/bundle"
	"github.com/microvm/microvm/runtime/cgroup"
	"github.com/microvm/microvm/runtime/sandbox"
)

// Blueprint is what a bundle comes to, for a caller that keeps the machine
// itself and may put several containers into it.
type Blueprint struct {
	Bundle *bundle.Bundle
	Plan   *bundle.Plan
	// Machine fits the container, and has its exports.
	Machine sandbox.Config
}

// Blueprint reads the bundle in dir, chooses a machine for it and makes the
// mount points that the guest cannot make. prefix goes before the names of the
// exports.
func (e *Engine) Blueprint(id, dir, prefix string) (*Blueprint, error) {
	d, err := e.design(id, dir)
	if err != nil {
		return nil, err
	}
	if err := makeMountpoints(d.bundle.Rootfs(), d.plan); err != nil {
		return nil, err
	}
	d.plan.Prefix(prefix)
	d.machine.Exports = exports(d.plan)
	return &Blueprint{Bundle: d.bundle, Plan: d.plan, Machine: d.machine}, nil
}

// HostLimits are what the machine's cgroup on the host is limited to.
func (b *Blueprint) HostLimits() *cgroups.Resources {
	return cgroup.Resources(b.Bundle.Resources(), cgroup.Machine{Memory: machineMemory(b.Machine.Machine, b.Machine.Memory)})
}
