package kvm

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// CPUIDEntry is struct kvm_cpuid_entry2: what CPUID answers for one function
// and, if it has them, one index.
type CPUIDEntry struct {
	Function uint32
	Index    uint32
	Flags    uint32
	EAX      uint32
	EBX      uint32
	ECX      uint32
	EDX      uint32
	_        [3]uint32
}

// CPUIDSignificantIndex in Flags says that Index counts
// (KVM_CPUID_FLAG_SIGNIFCANT_INDEX).
const CPUIDSignificantIndex = 1

// maxCPUIDEntries is KVM_MAX_CPUID_ENTRIES.
const maxCPUIDEntries = 256

// SupportedCPUID is what this host can offer to a guest.
func (s *System) SupportedCPUID() ([]CPUIDEntry, error) {
	h, entries := packed[CPUIDEntry](maxCPUIDEntries)
	if errno := ioctlPtr(s.fd, kvmGetSupportedCPUI, h); errno != 0 {
		return nil, fmt.Errorf("KVM_GET_SUPPORTED_CPUID: %w", errno)
	}
	return entries[:min(int(h.n), len(entries))], nil
}

// SetCPUID defines what CPUID answers. It must come before the first Run and
// before MSRs are set, whose validity depends on it.
func (c *VCPU) SetCPUID(entries []CPUIDEntry) error {
	if len(entries) > maxCPUIDEntries {
		return fmt.Errorf("KVM_SET_CPUID2: %d entries: %w", len(entries), unix.E2BIG)
	}
	h, room := packed[CPUIDEntry](len(entries))
	copy(room, entries)
	return check("KVM_SET_CPUID2", ioctlPtr(c.fd, kvmSetCPUID2, h))
}
