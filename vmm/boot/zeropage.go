package boot

import (
	"encoding/binary"

	"github.com/microvm/microvm/vmm/guestmem"
	"github.com/microvm/microvm/vmm/x86"
)

// Offsets in struct boot_params (Documentation/arch/x86/zero-page.rst and
// boot.rst).
const (
	zeroPageSize = 4096

	zpE820Entries  = 0x1e8
	zpSignature    = 0x1fe // boot_flag
	zpHeader       = 0x202
	zpLoaderType   = 0x210
	zpRamdiskImage = 0x218
	zpRamdiskSize  = 0x21c
	zpCmdline      = 0x228
	zpAlignment    = 0x230
	zpCmdlineSize  = 0x238
	zpE820         = 0x2d0

	bootFlag     = 0xaa55
	headerMagic  = 0x53726448 // "HdrS"
	loaderOther  = 0xff
	kernelAlign  = 1 << 24
	zpHeaderVers = 0x206
	bootProtocol = 0x20c
)

// zeroPage is struct boot_params for the 64-bit entry.
func zeroPage(initramfs guestmem.Range, p Params) []byte {
	b := make([]byte, zeroPageSize)
	le := binary.LittleEndian
	le.PutUint16(b[zpSignature:], bootFlag)
	le.PutUint32(b[zpHeader:], headerMagic)
	le.PutUint16(b[zpHeaderVers:], bootProtocol)
	b[zpLoaderType] = loaderOther
	le.PutUint32(b[zpRamdiskImage:], uint32(initramfs.Base))
	le.PutUint32(b[zpRamdiskSize:], uint32(initramfs.Size))
	le.PutUint32(b[zpCmdline:], x86.CmdlineAddr)
	le.PutUint32(b[zpCmdlineSize:], uint32(len(p.Cmdline)))
	le.PutUint32(b[zpAlignment:], kernelAlign)
	memoryMap := x86.MemoryMap(p.RAM)
	b[zpE820Entries] = byte(len(memoryMap))
	at := b[zpE820:]
	for _, e := range memoryMap {
		le.PutUint64(at, e.Addr)
		le.PutUint64(at[8:], e.Size)
		le.PutUint32(at[16:], e.Type)
		at = at[20:]
	}
	return b
}
