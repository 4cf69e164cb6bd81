package x86

import (
	"fmt"
	"strings"

	"github.com/microvm/microvm/vmm/guestmem"
)

// Guest physical addresses, in ascending order. What is not listed is free
// memory of the guest, or nothing.
const (
	GDTAddr       = 0x500    // descriptor table at entry
	StartInfoAddr = 0x6000   // struct hvm_start_info, its module list and memory map
	ZeroPageAddr  = 0x7000   // struct boot_params of the 64-bit entry
	BootStackAddr = 0x8ff0   // stack at the 64-bit entry, grows down
	PML4Addr      = 0x9000   // page tables of the 64-bit entry, PML4Addr to PageTablesEnd
	PDPTAddr      = 0xa000   //
	PDAddr        = 0xb000   // four of them: the first 4 GiB in pages of 2 MiB
	PageTablesEnd = 0xf000   //
	CmdlineAddr   = 0x20000  // kernel command line
	LowMemoryEnd  = 0x9fc00  // end of conventional memory
	MPTableAddr   = 0xf0000  // MP floating pointer and configuration table
	MPTableEnd    = 0x100000 //
	HighMemory    = 0x100000 // the kernel goes above

	DeviceHole       = 0xc000_0000 // no RAM from here ...
	VirtioBase       = 0xd000_0000 // virtio-mmio slots
	VirtioSize       = 0x1000      // size of a slot
	IOAPICAddr       = 0xfec0_0000 // in the kernel
	LAPICAddr        = 0xfee0_0000 // in the kernel
	IdentityMapAddr  = 0xfffb_c000 // one page for Intel's KVM
	TSSAddr          = 0xfffb_d000 // three pages for Intel's KVM
	DeviceHoleEnd    = 1 << 32     // ... to here
	CmdlineMax       = 0x10000     // room for the command line, NUL included
	FirstVirtioIRQ   = 5           // interrupt line of slot 0
	IOAPICPins       = 24          // of the IOAPIC in the kernel
	MaxVirtioDevices = IOAPICPins - FirstVirtioIRQ
)

// I/O ports.
const (
	PortI8042Data    = 0x60
	PortI8042Command = 0x64
	PortUART         = 0x3f8 // 8 ports
	PortExit         = 0x501 // a byte written here switches the machine off
)

// VirtioSlot is where virtio-mmio device i lives: its address and interrupt
// line. i is below MaxVirtioDevices.
func VirtioSlot(i int) (addr uint64, irq uint32) {
	return VirtioBase + uint64(i)*VirtioSize, uint32(FirstVirtioIRQ + i)
}

// RAM is where size bytes of memory go, around the hole for devices.
func RAM(size uint64) []guestmem.Range {
	if size <= DeviceHole {
		return []guestmem.Range{{Base: 0, Size: size}}
	}
	return []guestmem.Range{{Base: 0, Size: DeviceHole}, {Base: DeviceHoleEnd, Size: size - DeviceHole}}
}

// Spare is what RAM(most) has beyond RAM(size): addresses at which a guest that
// starts with size bytes finds memory when it looks.
func Spare(size, most uint64) (spare []guestmem.Range) {
	now := RAM(size)
	for i, r := range RAM(max(size, most)) {
		if i < len(now) {
			r = guestmem.Range{Base: now[i].Base + now[i].Size, Size: r.Size - now[i].Size}
		}
		if r.Size > 0 {
			spare = append(spare, r)
		}
	}
	return spare
}

// GrowthParameters are the kernel's parameters, with a blank before each, of a
// guest that starts with cpus processors and finds more, and the agent's that
// says where there is spare memory. Both are empty where there is none.
func GrowthParameters(cpus, mostCPUs int, spare []guestmem.Range) string {
	var b strings.Builder
	if mostCPUs > cpus {
		fmt.Fprintf(&b, " maxcpus=%d", cpus)
	}
	for i, r := range spare {
		b.WriteString([]string{" microvm.spare=", ","}[min(i, 1)])
		fmt.Fprintf(&b, "%#x-%#x", r.Base, r.Base+r.Size)
	}
	return b.String()
}

// MemoryMapEntry is a run of addresses as the kernel is told of it.
type MemoryMapEntry struct {
	Addr, Size uint64
	Type       uint32
}

// E820RAM is the type of usable memory (the E820 map and PVH agree on it).
const E820RAM = 1

// MemoryMap is the usable memory of a machine with the given RAM: all of it
// but the old BIOS area, where the MP table is.
func MemoryMap(ram []guestmem.Range) []MemoryMapEntry {
	m := []MemoryMapEntry{{Addr: 0, Size: LowMemoryEnd, Type: E820RAM}}
	for _, r := range ram {
		if r.Base == 0 {
			r = guestmem.Range{Base: HighMemory, Size: r.Size - HighMemory}
		}
		m = append(m, MemoryMapEntry{Addr: r.Base, Size: r.Size, Type: E820RAM})
	}
	return m
}
