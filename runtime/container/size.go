package container

import (
	"cmp"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/runtime/bundle"
	"github.com/microvm/microvm/runtime/config"
)

// What the guest takes besides a container that uses all of its limit: its
// kernel, the agent, and the programs of both in the initramfs. Page cache needs
// no room of its own, for the container's is a part of its limit.
//
// Measured as memory minus MemAvailable with an idle container: 52 MiB of 128,
// 65 of 512, 112 of 1120 and 217 of 4288. The part that grows is the kernel's
// page descriptors, hash tables and reserves. The rest is room for an agent at
// work.
const (
	guestBase  = 64 // MiB
	guestShare = 16 // one part in so many of the limit
)

// growth is about by how many MiB a running container's limit can be raised.
// The host gives memory only when the guest touches it: these cost one
// for their page descriptors.
const growth = 64

// minLimit is the smallest memory limit, in bytes, that a container is started
// with. The process that becomes the container's is killed at 1.75 MiB and
// below, and busybox runs at 2; seccomp filters and mounts take the rest.
const minLimit = 3 << 20

// host is what there is to share out.
type host struct {
	memory uint64 // MiB
	cpus   int
}

func thisHost() host {
	h := host{cpus: runtime.NumCPU()}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		h.memory = info.Totalram * uint64(info.Unit) >> 20
	}
	return h
}

// sizes returns memory in MiB and number of CPUs for a machine: what the
// annotations say, else what fits the container's limits, else what the
// configuration says. No machine makes up for a memory limit that the container
// cannot start in.
func sizes(annotated, configured config.Config, want bundle.Size, h host) (memory uint64, cpus int, err error) {
	if want.Memory != 0 && want.Memory < minLimit {
		return 0, 0, fmt.Errorf("linux.resources.memory.limit: memory limit too low: %d bytes, and starting a container takes %d (%d MiB); raise the limit, or leave it out",
			want.Memory, minLimit, minLimit>>20)
	}
	memory, cpus = annotated.Memory, annotated.CPUs
	if memory == 0 && want.Memory != 0 {
		memory = guestMemory(want.Memory)
		if h.memory != 0 {
			// No limit in earnest, such as that of a host with more.
			memory = min(memory, max(h.memory, config.MinMemory))
		}
	}
	if cpus == 0 {
		cpus = min(want.CPUs(), h.cpus, config.MaxCPUs)
	}
	return cmp.Or(memory, configured.Memory, config.DefaultMemory), cmp.Or(cpus, configured.CPUs, config.DefaultCPUs), nil
}

// guestMemory is that of a machine, in MiB, whose container can use limit bytes.
func guestMemory(limit uint64) uint64 {
	limit = (limit-1)>>20 + 1
	return limit + guestBase + growth + limit/guestShare
}

// mostOf is the highest limit, in bytes, for a container in a machine of so
// many bytes.
func mostOf(machine uint64) uint64 {
	return (machine - min(machine, guestBase<<20)) / (guestShare + 1) * guestShare
}

// Overhead is what the machine of a container or pod with a limit of so many MiB
// takes of the host beyond that limit, in MiB. kind is the machine's.
func Overhead(kind string, limit uint64) uint64 {
	return machineMemory(kind, guestMemory(limit<<20)<<20)>>20 - limit
}
