package boot

import (
	"encoding/binary"

	"github.com/microvm/microvm/vmm/guestmem"
	"github.com/microvm/microvm/vmm/x86"
)

// Structures of the PVH boot protocol (xen/include/public/arch-x86/hvm/
// start_info.h), all little endian.
const (
	startInfoMagic   = 0x336ec578 // XEN_HVM_START_MAGIC_VALUE
	startInfoVersion = 1          // has a memory map
	startInfoSize    = 56         // struct hvm_start_info
	moduleSize       = 32         // struct hvm_modlist_entry
)

// startInfo is struct hvm_start_info at x86.StartInfoAddr, directly followed by
// the module list and the memory map it points to.
func startInfo(initramfs guestmem.Range, p Params) []byte {
	memoryMap := x86.MemoryMap(p.RAM)
	modules, modulesAt := uint32(0), uint64(0)
	mapAt := uint64(x86.StartInfoAddr + startInfoSize)
	if initramfs.Size > 0 {
		modules, modulesAt = 1, mapAt
		mapAt += moduleSize
	}
	le := binary.LittleEndian
	b := le.AppendUint32(nil, startInfoMagic)
	b = le.AppendUint32(b, startInfoVersion)
	b = le.AppendUint32(b, 0) // flags
	b = le.AppendUint32(b, modules)
	b = le.AppendUint64(b, modulesAt)
	b = le.AppendUint64(b, x86.CmdlineAddr)
	b = le.AppendUint64(b, 0) // rsdp_paddr: no ACPI
	b = le.AppendUint64(b, mapAt)
	b = le.AppendUint32(b, uint32(len(memoryMap)))
	b = le.AppendUint32(b, 0) // reserved
	if modules > 0 {
		b = le.AppendUint64(b, initramfs.Base)
		b = le.AppendUint64(b, initramfs.Size)
		b = append(b, make([]byte, 16)...) // no command line of its own; reserved
	}
	for _, e := range memoryMap {
		b = le.AppendUint64(b, e.Addr)
		b = le.AppendUint64(b, e.Size)
		b = le.AppendUint32(b, e.Type)
		b = le.AppendUint32(b, 0) // reserved
	}
	return b
}
