package x86

import (
	"math/bits"

	"github.com/microvm/microvm/vmm/kvm"
)

// Functions of CPUID that depend on the machine (Intel SDM volume 2, CPUID;
// AMD APM volume 3, appendix E).
const (
	leafFeatures     = 0x1
	leafCaches       = 0x4 // Intel
	leafMonitor      = 0x5
	leafPerfMon      = 0xa
	leafTopology     = 0xb
	leafSGX          = 0x12
	leafPT           = 0x14
	leafTopologyV2   = 0x1f
	leafExtFeatures  = 0x8000_0001
	leafSVM          = 0x8000_000a
	leafSizes        = 0x8000_0008
	leafCachesAMD    = 0x8000_001d
	leafTopologyAMD  = 0x8000_001e
	leafPerfMonAMD   = 0x8000_0022
	leafTopologyAMD2 = 0x8000_0026
)

// Bits of leafFeatures and leafExtFeatures.
const (
	ecxMonitor     = 1 << 3
	ecxVMX         = 1 << 5
	ecxTSCDeadline = 1 << 24
	ecxHypervisor  = 1 << 31
	edxHTT         = 1 << 28 // more than one logical processor

	extECXCmpLegacy = 1 << 1 // AMD: they are cores, not threads
	extECXSVM       = 1 << 2
	extECXTopoExt   = 1 << 22
)

// CPUID says what CPUID answers on a machine with one socket of cores.
type CPUID struct {
	// Supported is what the host can offer.
	Supported []kvm.CPUIDEntry
	// Cores is the number of processors, each a core of its own.
	Cores int
	// TSCDeadline says that the local APIC has a deadline timer, which the
	// supported set of older kernels leaves out.
	TSCDeadline bool
}

// ForCPU returns the answers of the processor with the given APIC id.
func (c CPUID) ForCPU(apicID uint32) []kvm.CPUIDEntry {
	out := make([]kvm.CPUIDEntry, 0, len(c.Supported)+4)
	amdTopology := false
	for _, e := range c.Supported {
		switch e.Function {
		case leafTopology, leafTopologyV2:
			continue // built anew below
		case leafMonitor, leafPerfMon, leafSGX, leafPT, leafSVM, leafPerfMonAMD, leafTopologyAMD2:
			continue // not offered to guests
		case leafTopologyAMD:
			amdTopology = true
		}
		c.adjust(&e, apicID)
		out = append(out, e)
	}
	out = append(out, c.topology(leafTopology, apicID)...)
	if maxLeaf(c.Supported, 0) >= leafTopologyV2 {
		out = append(out, c.topology(leafTopologyV2, apicID)...)
	}
	if !amdTopology {
		clearTopoExt(out)
	}
	return out
}

func (c CPUID) adjust(e *kvm.CPUIDEntry, apicID uint32) {
	switch e.Function {
	case 0:
		e.EAX = max(e.EAX, leafTopology)
	case leafFeatures:
		c.features(e, apicID)
	case leafCaches:
		c.caches(e)
	case leafExtFeatures:
		e.ECX &^= extECXSVM | extECXCmpLegacy
		if c.Cores > 1 && e.ECX&extECXTopoExt != 0 {
			e.ECX |= extECXCmpLegacy
		}
	case leafSizes:
		// ECX: width of a core's id, number of cores less one.
		e.ECX = e.ECX&^0xf0ff | c.idBits()<<12 | uint32(c.Cores-1)&0xff
	case leafCachesAMD:
		c.caches(e)
	case leafTopologyAMD:
		// One thread per core, all cores in node 0.
		e.EAX, e.EBX, e.ECX = apicID, apicID&0xff, 0
	}
}

// features adjusts leaf 1.
func (c CPUID) features(e *kvm.CPUIDEntry, apicID uint32) {
	const clflush = 0xff00
	e.EBX = e.EBX&0xff | clflushSize(e.EBX&clflush) | 1<<c.idBits()<<16 | apicID<<24
	e.ECX &^= ecxMonitor | ecxVMX
	e.ECX |= ecxHypervisor
	if c.TSCDeadline {
		e.ECX |= ecxTSCDeadline
	}
	e.EDX &^= edxHTT
	if c.Cores > 1 {
		e.EDX |= edxHTT
	}
}

// clflushSize keeps the host's cache line (in units of 8 bytes, in bits 15:8),
// or says 64 bytes.
func clflushSize(host uint32) uint32 {
	if host == 0 {
		return 8 << 8
	}
	return host
}

// caches adjusts who shares a cache: the first two levels are a core's own,
// the third is the socket's.
func (c CPUID) caches(e *kvm.CPUIDEntry) {
	const kind, level = 0x1f, 0xe0
	if e.EAX&kind == 0 {
		return // no more caches
	}
	sharing := uint32(0)
	if e.EAX&level>>5 >= 3 {
		sharing = uint32(c.Cores - 1)
	}
	e.EAX = e.EAX&0x3fff | sharing<<14
	if e.Function == leafCaches {
		e.EAX |= (1<<c.idBits() - 1) << 26
	}
}

// topology is leaf 0xB or 0x1F: a level of threads, a level of cores, the end.
func (c CPUID) topology(leaf, apicID uint32) []kvm.CPUIDEntry {
	const thread, core = 1 << 8, 2 << 8
	e := kvm.CPUIDEntry{Function: leaf, Flags: kvm.CPUIDSignificantIndex, EDX: apicID}
	threads, cores, end := e, e, e
	threads.EBX, threads.ECX = 1, thread
	cores.Index, cores.EAX, cores.EBX, cores.ECX = 1, c.idBits(), uint32(c.Cores), core|1
	end.Index, end.ECX = 2, 2
	return []kvm.CPUIDEntry{threads, cores, end}
}

// idBits is how many bits of an APIC id tell cores apart.
func (c CPUID) idBits() uint32 { return uint32(bits.Len(uint(c.Cores - 1))) }

// maxLeaf is the highest function of the range that starts at base.
func maxLeaf(entries []kvm.CPUIDEntry, base uint32) uint32 {
	for _, e := range entries {
		if e.Function == base {
			return e.EAX
		}
	}
	return 0
}

// clearTopoExt takes back the promise of the AMD leaves that are not there.
func clearTopoExt(entries []kvm.CPUIDEntry) {
	for i := range entries {
		if entries[i].Function == leafExtFeatures {
			entries[i].ECX &^= extECXTopoExt
		}
	}
}
