package cgroup

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/opencontainers/cgroups"
)

// Limit sets limits; what is zero stays as it is. Each is set by itself, for a
// host may lack one controller, or one file of it, and the others are to hold
// all the same. It returns an error for each that was not set, in class
// ErrUnusable for one that this host has not.
func (c *Cgroup) Limit(r *cgroups.Resources) (problems []error) {
	for _, l := range limits(r) {
		if err := c.set(l.resources); err != nil {
			problems = append(problems, fmt.Errorf("set %s of the machine's cgroup: %w", l.name, err))
		}
	}
	return problems
}

func (c *Cgroup) set(r *cgroups.Resources) error {
	err := c.manager.Set(r)
	if errors.Is(err, fs.ErrNotExist) && r.MemorySwap != 0 && r.Memory != 0 {
		// A kernel without accounting of swap.
		return c.set(&cgroups.Resources{SkipDevices: true, Memory: r.Memory})
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	return classify(err)
}

// limit is one that makes sense without the others.
type limit struct {
	name      string
	resources *cgroups.Resources
}

// limits cuts r up into those that it sets.
func limits(r *cgroups.Resources) (all []limit) {
	add := func(name string, wanted bool, one cgroups.Resources) {
		if wanted {
			one.SkipDevices = true
			all = append(all, limit{name, &one})
		}
	}
	add("memory limit", r.Memory != 0 || r.MemorySwap != 0, cgroups.Resources{Memory: r.Memory, MemorySwap: r.MemorySwap})
	add("memory reservation", r.MemoryReservation != 0, cgroups.Resources{MemoryReservation: r.MemoryReservation})
	add("memory swappiness", r.MemorySwappiness != nil, cgroups.Resources{MemorySwappiness: r.MemorySwappiness})
	add("cpuset CPUs", r.CpusetCpus != "", cgroups.Resources{CpusetCpus: r.CpusetCpus})
	add("cpuset memory nodes", r.CpusetMems != "", cgroups.Resources{CpusetMems: r.CpusetMems})
	add("CPU shares", r.CpuShares != 0 || r.CpuWeight != 0, cgroups.Resources{CpuShares: r.CpuShares, CpuWeight: r.CpuWeight})
	add("CPU quota", r.CpuQuota != 0 || r.CpuPeriod != 0, cgroups.Resources{CpuQuota: r.CpuQuota, CpuPeriod: r.CpuPeriod})
	add("CPU burst", r.CpuBurst != nil, cgroups.Resources{CpuBurst: r.CpuBurst})
	add("idle CPU policy", r.CPUIdle != nil, cgroups.Resources{CPUIdle: r.CPUIdle})
	add("block I/O weight", r.BlkioWeight != 0, cgroups.Resources{BlkioWeight: r.BlkioWeight})
	add("block I/O leaf weight", r.BlkioLeafWeight != 0, cgroups.Resources{BlkioLeafWeight: r.BlkioLeafWeight})
	add("block I/O weights of devices", len(r.BlkioWeightDevice) > 0, cgroups.Resources{BlkioWeightDevice: r.BlkioWeightDevice})
	add("block I/O read rates", len(r.BlkioThrottleReadBpsDevice) > 0, cgroups.Resources{BlkioThrottleReadBpsDevice: r.BlkioThrottleReadBpsDevice})
	add("block I/O write rates", len(r.BlkioThrottleWriteBpsDevice) > 0, cgroups.Resources{BlkioThrottleWriteBpsDevice: r.BlkioThrottleWriteBpsDevice})
	add("block I/O read operations", len(r.BlkioThrottleReadIOPSDevice) > 0, cgroups.Resources{BlkioThrottleReadIOPSDevice: r.BlkioThrottleReadIOPSDevice})
	add("block I/O write operations", len(r.BlkioThrottleWriteIOPSDevice) > 0, cgroups.Resources{BlkioThrottleWriteIOPSDevice: r.BlkioThrottleWriteIOPSDevice})
	return all
}
