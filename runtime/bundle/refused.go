package bundle

import (
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Refused returns an error for the first field that is set and that this
// runtime does not do. What it does instead of the field, or leaves out
// because the machine's boundary makes it pointless, is in Split.
func Refused(spec *specs.Spec) error {
	for _, r := range refusals {
		if r.set(spec) {
			return invalid(r.field, "%s", r.why)
		}
	}
	return refusedMounts(spec.Mounts)
}

type refusal struct {
	field string
	set   func(*specs.Spec) bool
	why   string
}

const otherPlatform = "is for another platform: leave it out"

var refusals = []refusal{
	{"solaris", func(s *specs.Spec) bool { return s.Solaris != nil }, otherPlatform},
	{"windows", func(s *specs.Spec) bool { return s.Windows != nil }, otherPlatform},
	{"zos", func(s *specs.Spec) bool { return s.ZOS != nil }, otherPlatform},
	{"freebsd", func(s *specs.Spec) bool { return s.FreeBSD != nil }, otherPlatform},
	{"vm", func(s *specs.Spec) bool { return s.VM != nil }, "is not supported: the machine is described in " + "/etc/microvm/config.toml and by io.microvm annotations"},
	{"linux.intelRdt", linux(func(l *specs.Linux) bool { return l.IntelRdt != nil }), "is not supported: a guest has no access to the CPU's resource control"},
	{"linux.memoryPolicy", linux(func(l *specs.Linux) bool { return l.MemoryPolicy != nil }), "is not supported: a guest has one memory node"},
	{"linux.netDevices", linux(func(l *specs.Linux) bool { return len(l.NetDevices) > 0 }), "is not supported: a guest has no network devices of the host"},
	{"linux.seccomp.listenerPath", linux(func(l *specs.Linux) bool { return l.Seccomp != nil && l.Seccomp.ListenerPath != "" }), "seccomp notification is not supported: its listener would be outside of the machine"},
}

func linux(set func(*specs.Linux) bool) func(*specs.Spec) bool {
	return func(s *specs.Spec) bool { return s.Linux != nil && set(s.Linux) }
}

// mountTypes besides bind mounts; all are mounted by the guest's kernel.
var mountTypes = []string{
	"tmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2", overlayType,
	"ramfs", "devtmpfs", "hugetlbfs", "bpf", "securityfs", "binfmt_misc", "fuse", "nfs", "nfs4", "ext2", "ext4", "erofs",
}

func refusedMounts(mounts []specs.Mount) error {
	for i, m := range mounts {
		field := fmt.Sprintf("mounts[%d]", i)
		switch {
		case IsBind(m) && m.Source == "":
			return invalid(field+".source", "%s: a bind mount needs a source", m.Destination)
		case IsBind(m):
		case !slices.Contains(mountTypes, m.Type):
			return invalid(field+".type", "%s: a file system of type %q is not supported; bind mounts and %v are", m.Destination, m.Type, mountTypes)
		}
	}
	return nil
}

// diskTypes are on block devices.
var diskTypes = []string{"ext2", "ext4", "erofs"}

// IsBind tells whether m binds a file or directory.
func IsBind(m specs.Mount) bool {
	return m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
}
