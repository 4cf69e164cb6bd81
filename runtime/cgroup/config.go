package cgroup

import (
	"fmt"
	"path"
	"strings"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/systemd"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// scopePrefix names the systemd scope of a container without a cgroupsPath.
const scopePrefix = "microvm"

// newConfig reads cgroupsPath as runc does: an absolute path is below the root
// of each hierarchy, a relative one below the cgroup of this process, none is
// the container's id there; for systemd it is slice:prefix:name.
func newConfig(id, cgroupsPath string, systemd bool) (*cgroups.Cgroup, error) {
	c := &cgroups.Cgroup{Systemd: systemd, Resources: &cgroups.Resources{SkipDevices: true}}
	switch {
	case systemd && cgroupsPath == "":
		c.ScopePrefix, c.Name = scopePrefix, id
	case systemd:
		parts := strings.Split(cgroupsPath, ":")
		if len(parts) != 3 {
			return nil, fmt.Errorf("linux.cgroupsPath: expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got %q instead", cgroupsPath)
		}
		c.Parent, c.ScopePrefix, c.Name = parts[0], parts[1], parts[2]
	case cgroupsPath == "":
		c.Name = id
	default:
		c.Path = clean(cgroupsPath)
	}
	return c, nil
}

// OfSystemd tells whether systemd is to make the cgroup of a cgroupsPath: one that
// is written for it, as by a kubelet that has its slices made by it, on a host where
// it runs. Elsewhere it is a path like others, as it is to runc without systemd.
func OfSystemd(cgroupsPath string) bool {
	return forSystemd(cgroupsPath) && systemd.IsRunningSystemd()
}

// forSystemd is slice:prefix:name.
func forSystemd(cgroupsPath string) bool {
	slice, rest, ok := strings.Cut(cgroupsPath, ":")
	return ok && strings.HasSuffix(slice, ".slice") && strings.Count(rest, ":") == 1
}

// clean removes every way out of the place that p is relative to.
func clean(p string) string {
	if path.IsAbs(p) {
		return path.Clean(p)
	}
	return strings.TrimPrefix(path.Clean("/"+p), "/")
}

// Machine is what a VM takes besides the container.
type Machine struct {
	// Memory of the guest and of the processes around it, in bytes.
	Memory uint64
}

// Resources are the limits of a machine around a container with the limits r,
// which may be nil. Those of memory are raised to the machine's, and only if
// the container has one.
func Resources(r *specs.LinuxResources, m Machine) *cgroups.Resources {
	out := &cgroups.Resources{SkipDevices: true}
	if r == nil {
		return out
	}
	if r.Memory != nil {
		setMemory(out, r.Memory, int64(m.Memory))
	}
	if r.CPU != nil {
		setCPU(out, r.CPU)
	}
	if r.BlockIO != nil {
		setBlockIO(out, r.BlockIO)
	}
	return out
}

// Limits tells whether r, which may be nil, limits a machine on the host.
func Limits(r *specs.LinuxResources) bool {
	return r != nil && (r.Memory != nil || r.CPU != nil || r.BlockIO != nil)
}

func setMemory(out *cgroups.Resources, m *specs.LinuxMemory, machine int64) {
	out.MemorySwappiness = m.Swappiness
	if m.Limit == nil || *m.Limit == 0 {
		return
	}
	if *m.Limit < 0 {
		out.Memory, out.MemorySwap = -1, value(m.Swap)
		return
	}
	overhead := max(0, machine-*m.Limit)
	out.Memory = *m.Limit + overhead
	if swap := value(m.Swap); swap > 0 {
		out.MemorySwap = max(out.Memory, swap+overhead)
	} else {
		out.MemorySwap = swap
	}
	if reservation := value(m.Reservation); reservation > 0 {
		out.MemoryReservation = reservation + overhead
	}
}

func setCPU(out *cgroups.Resources, c *specs.LinuxCPU) {
	out.CpuShares = value(c.Shares)
	out.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(out.CpuShares)
	out.CpuQuota, out.CpuPeriod, out.CpuBurst = value(c.Quota), value(c.Period), c.Burst
	out.CpusetCpus, out.CpusetMems, out.CPUIdle = c.Cpus, c.Mems, c.Idle
}

func setBlockIO(out *cgroups.Resources, b *specs.LinuxBlockIO) {
	out.BlkioWeight, out.BlkioLeafWeight = value(b.Weight), value(b.LeafWeight)
	for _, d := range b.WeightDevice {
		out.BlkioWeightDevice = append(out.BlkioWeightDevice, cgroups.NewWeightDevice(d.Major, d.Minor, value(d.Weight), value(d.LeafWeight)))
	}
	out.BlkioThrottleReadBpsDevice = throttles(b.ThrottleReadBpsDevice)
	out.BlkioThrottleWriteBpsDevice = throttles(b.ThrottleWriteBpsDevice)
	out.BlkioThrottleReadIOPSDevice = throttles(b.ThrottleReadIOPSDevice)
	out.BlkioThrottleWriteIOPSDevice = throttles(b.ThrottleWriteIOPSDevice)
}

func throttles(all []specs.LinuxThrottleDevice) (out []*cgroups.ThrottleDevice) {
	for _, d := range all {
		out = append(out, cgroups.NewThrottleDevice(d.Major, d.Minor, d.Rate))
	}
	return out
}

func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
