package process

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// initCalls are system calls that libcontainer makes when the filter is in
// force already, before it executes the program. All are harmless, and newer
// than some profiles, which then let no container start.
var initCalls = []string{"statx", "openat2", "close_range", "faccessat2", "fstatfs", "newfstatat"}

// withInitCalls allows initCalls unless the profile mentions them.
func withInitCalls(profile *specs.LinuxSeccomp) *specs.LinuxSeccomp {
	if profile == nil || profile.DefaultAction == specs.ActAllow || profile.DefaultAction == specs.ActLog {
		return profile
	}
	var missing []string
	for _, name := range initCalls {
		mentions := func(s specs.LinuxSyscall) bool { return slices.Contains(s.Names, name) }
		if !slices.ContainsFunc(profile.Syscalls, mentions) {
			missing = append(missing, name)
		}
	}
	if missing == nil {
		return profile
	}
	wider := *profile
	wider.Syscalls = append(slices.Clone(profile.Syscalls), specs.LinuxSyscall{Names: missing, Action: specs.ActAllow})
	return &wider
}
