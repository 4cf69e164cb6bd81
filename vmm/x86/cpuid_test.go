package x86

import (
	"testing"

	"github.com/microvm/microvm/vmm/kvm"
	"github.com/microvm/microvm/vmm/kvm/kvmtest"
)

// host is what a made-up host of 16 threads supports.
func host() []kvm.CPUIDEntry {
	const sig = kvm.CPUIDSignificantIndex
	return []kvm.CPUIDEntry{
		{Function: 0, EAX: 0x20},
		{Function: 1, EBX: 0x07100800, ECX: ecxMonitor | ecxVMX, EDX: edxHTT | 1},
		{Function: 4, Index: 0, Flags: sig, EAX: 0x3c00_4121},
		{Function: 4, Index: 3, Flags: sig, EAX: 0x3c03_c163},
		{Function: 4, Index: 4, Flags: sig},
		{Function: 0xa, EAX: 0x0730_0403},
		{Function: 0xb, Index: 0, Flags: sig, EAX: 1, EBX: 2, ECX: 0x100},
		{Function: 0xb, Index: 1, Flags: sig, EAX: 4, EBX: 16, ECX: 0x201},
		{Function: 0x1f, Index: 0, Flags: sig, EAX: 1, EBX: 2, ECX: 0x100},
		{Function: 0x4000_0000, EAX: 0x4000_0001, EBX: 0x4b4d564b},
		{Function: 0x4000_0001, EAX: 0x0100_7efb},
		{Function: 0x8000_0000, EAX: 0x8000_0021},
		{Function: 0x8000_0001, ECX: extECXSVM | extECXTopoExt},
		{Function: 0x8000_0008, EAX: 0x3030, ECX: 0x700f},
		{Function: 0x8000_000a, EAX: 1},
		{Function: 0x8000_001d, Index: 0, Flags: sig, EAX: 0x4121},
		{Function: 0x8000_001d, Index: 3, Flags: sig, EAX: 0x3c163},
		{Function: 0x8000_001e, EAX: 9, EBX: 0x104, ECX: 0x200},
	}
}

// find returns the one entry of a function and index.
func find(t *testing.T, entries []kvm.CPUIDEntry, function, index uint32) kvm.CPUIDEntry {
	t.Helper()
	var found []kvm.CPUIDEntry
	for _, e := range entries {
		if e.Function == function && e.Index == index {
			found = append(found, e)
		}
	}
	if len(found) != 1 {
		t.Fatalf("leaf %#x.%d is there %d times", function, index, len(found))
	}
	return found[0]
}

func TestTopologyIsOneSocketOfCores(t *testing.T) {
	for _, test := range []struct{ cores, bits uint32 }{{1, 0}, {2, 1}, {3, 2}, {5, 3}, {8, 3}} {
		c := CPUID{Supported: host(), Cores: int(test.cores), TSCDeadline: true}
		id := test.cores - 1
		e := c.ForCPU(id)
		check := func(what string, got, want uint32) {
			t.Helper()
			if got != want {
				t.Errorf("%d cores: %s is %#x, want %#x", test.cores, what, got, want)
			}
		}
		leaf := find(t, e, 1, 0)
		check("APIC id of leaf 1", leaf.EBX>>24, id)
		check("ids of leaf 1", leaf.EBX>>16&0xff, 1<<test.bits)
		check("cache line", leaf.EBX>>8&0xff, 8)
		check("HTT", leaf.EDX>>28&1, min(test.cores-1, 1))
		check("cores of leaf 4", find(t, e, 4, 0).EAX>>26, 1<<test.bits-1)
		check("sharing of a first-level cache", find(t, e, 4, 0).EAX>>14&0xfff, 0)
		check("sharing of the third-level cache", find(t, e, 4, 3).EAX>>14&0xfff, test.cores-1)
		for _, function := range []uint32{0xb, 0x1f} {
			check("threads", find(t, e, function, 0).EBX, 1)
			check("shift of a core", find(t, e, function, 0).EAX, 0)
			check("cores", find(t, e, function, 1).EBX, test.cores)
			check("shift of the socket", find(t, e, function, 1).EAX, test.bits)
			check("x2APIC id", find(t, e, function, 1).EDX, id)
			check("end of levels", find(t, e, function, 2).EBX, 0)
		}
		check("cores of leaf 0x80000008", find(t, e, 0x8000_0008, 0).ECX&0xff, test.cores-1)
		check("bits of leaf 0x80000008", find(t, e, 0x8000_0008, 0).ECX>>12&0xf, test.bits)
		check("sharing of leaf 0x8000001D", find(t, e, 0x8000_001d, 3).EAX>>14&0xfff, test.cores-1)
		check("ids of leaf 0x8000001E", find(t, e, 0x8000_001e, 0).EAX, id)
		check("threads of leaf 0x8000001E", find(t, e, 0x8000_001e, 0).EBX>>8&0xff, 0)
	}
}

func TestFeatures(t *testing.T) {
	e := CPUID{Supported: host(), Cores: 2, TSCDeadline: true}.ForCPU(0)
	if ecx := find(t, e, 1, 0).ECX; ecx != ecxHypervisor|ecxTSCDeadline {
		t.Errorf("leaf 1 ECX is %#x", ecx)
	}
	if ecx := find(t, e, 0x8000_0001, 0).ECX; ecx != extECXTopoExt|extECXCmpLegacy {
		t.Errorf("leaf 0x80000001 ECX is %#x", ecx)
	}
	if eax := find(t, e, 0x4000_0001, 0).EAX; eax != 0x0100_7efb {
		t.Errorf("features of KVM are %#x", eax)
	}
	for _, gone := range []uint32{0xa, 0x8000_000a} {
		for _, x := range e {
			if x.Function == gone {
				t.Errorf("leaf %#x is offered", gone)
			}
		}
	}
	e = CPUID{Supported: host(), Cores: 1}.ForCPU(0)
	if ecx := find(t, e, 1, 0).ECX; ecx&ecxTSCDeadline != 0 {
		t.Error("a deadline timer that is not there is offered")
	}
}

// What this host supports, adjusted, must be accepted by its KVM.
func TestKVMAcceptsTheAnswers(t *testing.T) {
	system := kvmtest.Require(t)
	supported, err := system.SupportedCPUID()
	if err != nil {
		t.Fatal(err)
	}
	vm, err := system.CreateVM()
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	if err := vm.CreateIRQChip(); err != nil {
		t.Fatal(err)
	}
	c := CPUID{Supported: supported, Cores: 2, TSCDeadline: true}
	for id := range 2 {
		cpu, err := vm.CreateVCPU(id)
		if err != nil {
			t.Fatal(err)
		}
		defer cpu.Close()
		if err := cpu.SetCPUID(c.ForCPU(uint32(id))); err != nil {
			t.Error(err)
		}
		if err := SetCommon(cpu); err != nil {
			t.Error(err)
		}
	}
}
