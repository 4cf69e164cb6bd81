package bundle

import (
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// guestLinux is the Linux part for the guest. The container sits alone in the
// guest's cgroup hierarchy, shares the guest's network, and its CPUs are
// numbered by the guest.
func guestLinux(l *specs.Linux, id string) *specs.Linux {
	if l == nil {
		l = &specs.Linux{}
	}
	g := *l
	g.CgroupsPath = "/" + id
	g.MountLabel = ""
	g.Namespaces = guestNamespaces(l)
	g.Resources = GuestResources(l.Resources)
	return &g
}

// guestNamespaces drops the network namespace: the machine is one. A new one is
// kept only where the guest's kernel or libcontainer refuse to work without:
// for sysctls of the network and for sysfs in a user namespace. A cgroup
// namespace is always there: who has none on the host expects to see the cgroup
// of the container all the same, for that is what a cgroup mount shows there.
func guestNamespaces(l *specs.Linux) []specs.LinuxNamespace {
	keepNet := slices.ContainsFunc(l.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == specs.UserNamespace })
	for k := range l.Sysctl {
		keepNet = keepNet || ofNetwork(k)
	}
	kept := []specs.LinuxNamespace{{Type: specs.CgroupNamespace}}
	for _, ns := range l.Namespaces {
		if ns.Type == specs.CgroupNamespace {
			continue
		}
		if ns.Type != specs.NetworkNamespace {
			kept = append(kept, ns)
		} else if keepNet {
			kept = append(kept, specs.LinuxNamespace{Type: ns.Type})
		}
	}
	return kept
}

// GuestResources leaves out what names the host's CPUs and memory nodes, and
// block I/O, of which a guest has none: that limits the machine, on the host.
func GuestResources(r *specs.LinuxResources) *specs.LinuxResources {
	if r == nil {
		return nil
	}
	g := *r
	if r.CPU != nil {
		cpu := *r.CPU
		cpu.Cpus, cpu.Mems = "", ""
		g.CPU = &cpu
	}
	g.BlockIO = nil
	return &g
}

// noticeRealtime tells about limits that neither side can set: the guest has
// cgroup v2, and the threads of a machine are not real-time ones.
func (p *Plan) noticeRealtime(r *specs.LinuxResources) {
	if r != nil && r.CPU != nil && (r.CPU.RealtimeRuntime != nil || r.CPU.RealtimePeriod != nil) {
		p.notice("linux.resources.cpu.realtimeRuntime and realtimePeriod: without effect, the guest's kernel has no limits of real-time scheduling")
	}
}

// Size is what a container asks of its machine; 0 means that it doesn't say.
type Size struct {
	// Memory is the container's limit in bytes.
	Memory uint64
	// MilliCPUs is how many thousandths of CPUs it can keep busy.
	MilliCPUs int
}

// CPUs is the number of them that it can keep busy.
func (s Size) CPUs() int { return (s.MilliCPUs + 999) / 1000 }

// With is s of a container whose resources are changed to r.
func (s Size) With(r *specs.LinuxResources) Size {
	changed := SizeOf(r)
	if r.Memory != nil && r.Memory.Limit != nil {
		s.Memory = changed.Memory
	}
	if changed.MilliCPUs != 0 {
		s.MilliCPUs = changed.MilliCPUs
	}
	return s
}

// SizeOf is what a container with the resources r, which may be nil, asks for.
func SizeOf(r *specs.LinuxResources) Size {
	var s Size
	if r == nil {
		return s
	}
	if m := r.Memory; m != nil && m.Limit != nil && *m.Limit > 0 {
		s.Memory = uint64(*m.Limit)
	}
	if c := r.CPU; c != nil {
		s.MilliCPUs = milliCPUs(c)
	}
	return s
}

// defaultPeriod is the kernel's, in microseconds.
const defaultPeriod = 100000

func milliCPUs(c *specs.LinuxCPU) int {
	n := len(cpuList(c.Cpus)) * 1000
	if c.Quota != nil && *c.Quota > 0 {
		period := uint64(defaultPeriod)
		if c.Period != nil && *c.Period > 0 {
			period = *c.Period
		}
		quota := int((uint64(min(*c.Quota, 1<<40))*1000 + period - 1) / period)
		if n == 0 || quota < n {
			n = quota
		}
	}
	return n
}

// cpuList parses a list such as "0-2,5". What is malformed is left to the
// guest to refuse; numbers are bounded, so that no range fills the memory.
func cpuList(list string) []int {
	const most = 4096
	var all []int
	for part := range strings.SplitSeq(list, ",") {
		first, last, ok := parseRange(strings.TrimSpace(part))
		for n := first; ok && n <= last && n < most; n++ {
			if !slices.Contains(all, n) {
				all = append(all, n)
			}
		}
	}
	return all
}

func parseRange(s string) (first, last int, ok bool) {
	from, to, isRange := strings.Cut(s, "-")
	first, err := strconv.Atoi(from)
	if err != nil || first < 0 {
		return 0, 0, false
	}
	if !isRange {
		return first, first, true
	}
	last, err = strconv.Atoi(to)
	return first, last, err == nil
}
