package process

import (
	"fmt"
	"maps"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Update changes limits of a container; what r leaves out stays as it is.
func (e *Engine) Update(id string, r *specs.LinuxResources) error {
	c, err := e.container(id)
	if err != nil {
		return err
	}
	if c.init.snapshot().phase == stopped {
		return fail(ErrState, "cannot update a stopped container")
	}
	config := c.lib.Config()
	// A copy: what the kernel refuses must not be asked for again.
	group, old, resources := *config.Cgroups, config.Cgroups.Resources, *config.Cgroups.Resources
	config.Cgroups, group.Resources = &group, &resources
	// Device rules were set once and for all. The next exec wants to see them.
	old.SkipDevices, resources.SkipDevices = true, true
	defer func() { old.SkipDevices, resources.SkipDevices = false, false }()
	merge(&resources, r)
	if err := c.lib.Set(config); err != nil {
		return fmt.Errorf("update container %s: %w", id, classify(err))
	}
	return nil
}

// merge puts what is set in r into to.
func merge(to *cgroups.Resources, r *specs.LinuxResources) {
	mergeMemory(to, r.Memory)
	mergeCPU(to, r.CPU)
	if r.Pids != nil && r.Pids.Limit != nil {
		to.PidsLimit = r.Pids.Limit
	}
	if r.BlockIO != nil {
		set(&to.BlkioWeight, r.BlockIO.Weight)
	}
	if len(r.Unified) > 0 {
		all := maps.Clone(to.Unified)
		if all == nil {
			all = make(map[string]string)
		}
		maps.Copy(all, r.Unified)
		to.Unified = all
	}
}

func mergeMemory(to *cgroups.Resources, m *specs.LinuxMemory) {
	if m == nil {
		return
	}
	set(&to.Memory, m.Limit)
	set(&to.MemoryReservation, m.Reservation)
	set(&to.MemorySwap, m.Swap)
	set(&to.MemoryCheckBeforeUpdate, m.CheckBeforeUpdate)
}

func mergeCPU(to *cgroups.Resources, c *specs.LinuxCPU) {
	if c == nil {
		return
	}
	if c.Shares != nil {
		to.CpuShares, to.CpuWeight = *c.Shares, cgroups.ConvertCPUSharesToCgroupV2Value(*c.Shares)
	}
	set(&to.CpuQuota, c.Quota)
	set(&to.CpuPeriod, c.Period)
	if c.Burst != nil {
		to.CpuBurst = c.Burst
	}
	if c.Idle == nil {
		return
	}
	to.CPUIdle = c.Idle
	if c.Shares == nil {
		to.CpuShares, to.CpuWeight = 0, 0 // an idle cgroup takes no weight
	}
}

func set[T any](to *T, value *T) {
	if value != nil {
		*to = *value
	}
}
