package kvm

import (
	"testing"
	"unsafe"
)

// Sizes and offsets as in <linux/kvm.h> for x86-64.
func TestStructuresMirrorTheKernels(t *testing.T) {
	for _, s := range []struct {
		name      string
		got, want uintptr
	}{
		{"struct kvm_regs", unsafe.Sizeof(Regs{}), 0x90},
		{"kvm_regs.rip", unsafe.Offsetof(Regs{}.RIP), 0x80},
		{"struct kvm_segment", unsafe.Sizeof(Segment{}), 0x18},
		{"kvm_segment.type", unsafe.Offsetof(Segment{}.Type), 14},
		{"kvm_segment.unusable", unsafe.Offsetof(Segment{}.Unusable), 22},
		{"struct kvm_dtable", unsafe.Sizeof(DTable{}), 0x10},
		{"struct kvm_sregs", unsafe.Sizeof(Sregs{}), 0x138},
		{"kvm_sregs.cr0", unsafe.Offsetof(Sregs{}.CR0), 0xe0},
		{"kvm_sregs.efer", unsafe.Offsetof(Sregs{}.EFER), 0x108},
		{"kvm_sregs.interrupt_bitmap", unsafe.Offsetof(Sregs{}.InterruptBitmap), 0x118},
		{"struct kvm_fpu", unsafe.Sizeof(FPU{}), 0x1a0},
		{"kvm_fpu.xmm", unsafe.Offsetof(FPU{}.XMM), 0x98},
		{"kvm_fpu.mxcsr", unsafe.Offsetof(FPU{}.MXCSR), 0x198},
		{"struct kvm_lapic_state", unsafe.Sizeof(LAPIC{}), 0x400},
		{"struct kvm_mp_state", unsafe.Sizeof(MPState(0)), 4},
		{"struct kvm_cpuid_entry2", unsafe.Sizeof(CPUIDEntry{}), 0x28},
		{"kvm_cpuid_entry2.edx", unsafe.Offsetof(CPUIDEntry{}.EDX), 24},
		{"struct kvm_msr_entry", unsafe.Sizeof(MSR{}), 0x10},
		{"kvm_msr_entry.data", unsafe.Offsetof(MSR{}.Value), 8},
		{"struct kvm_userspace_memory_region", unsafe.Sizeof(memoryRegion{}), 0x20},
		{"struct kvm_pit_config", unsafe.Sizeof(pitConfig{}), 0x40},
		{"struct kvm_irq_level", unsafe.Sizeof(irqLevel{}), 8},
		{"struct kvm_irqfd", unsafe.Sizeof(irqFD{}), 0x20},
		{"struct kvm_ioeventfd", unsafe.Sizeof(ioEventFD{}), 0x40},
		{"kvm_ioeventfd.flags", unsafe.Offsetof(ioEventFD{}.flags), 24},
		{"header of struct kvm_cpuid2", unsafe.Sizeof(counted{}), 8},
	} {
		if s.got != s.want {
			t.Errorf("%s: %#x, want %#x", s.name, s.got, s.want)
		}
	}
}

// The size of an argument is in bits 29:16 of its request.
func TestRequestsCarryTheirArgumentsSize(t *testing.T) {
	for req, size := range map[uintptr]uintptr{
		kvmSetUserMemoryRegion: unsafe.Sizeof(memoryRegion{}),
		kvmSetIdentityMapAddr:  8,
		kvmIRQLine:             unsafe.Sizeof(irqLevel{}),
		kvmIRQFD:               unsafe.Sizeof(irqFD{}),
		kvmCreatePIT2:          unsafe.Sizeof(pitConfig{}),
		kvmIOEventFD:           unsafe.Sizeof(ioEventFD{}),
		kvmGetRegs:             unsafe.Sizeof(Regs{}),
		kvmSetRegs:             unsafe.Sizeof(Regs{}),
		kvmGetSregs:            unsafe.Sizeof(Sregs{}),
		kvmSetSregs:            unsafe.Sizeof(Sregs{}),
		kvmSetFPU:              unsafe.Sizeof(FPU{}),
		kvmGetLAPIC:            unsafe.Sizeof(LAPIC{}),
		kvmSetLAPIC:            unsafe.Sizeof(LAPIC{}),
		kvmGetMPState:          unsafe.Sizeof(MPState(0)),
		kvmSetCPUID2:           unsafe.Sizeof(counted{}),
		kvmGetSupportedCPUI:    unsafe.Sizeof(counted{}),
		kvmGetMSRs:             unsafe.Sizeof(counted{}),
		kvmSetMSRs:             unsafe.Sizeof(counted{}),
	} {
		if got := req >> 16 & 0x3fff; got != size {
			t.Errorf("request %#x carries %d bytes, want %d", req, got, size)
		}
	}
}

func TestPackedPutsEntriesBehindTheHeader(t *testing.T) {
	h, entries := packed[CPUIDEntry](3)
	if h.n != 3 || len(entries) != 3 {
		t.Fatalf("%d entries in the header, %d in the slice", h.n, len(entries))
	}
	if d := uintptr(unsafe.Pointer(&entries[0])) - uintptr(unsafe.Pointer(h)); d != 8 {
		t.Errorf("entries start at %d, want 8", d)
	}
}
