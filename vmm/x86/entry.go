package x86

import (
	"encoding/binary"
	"fmt"

	"github.com/microvm/microvm/vmm/guestmem"
	"github.com/microvm/microvm/vmm/kvm"
)

// Bits of control registers, EFER and RFLAGS.
const (
	cr0PE = 1 << 0
	cr0ET = 1 << 4
	cr0PG = 1 << 31

	cr4PAE = 1 << 5

	eferLME = 1 << 8
	eferLMA = 1 << 10

	rflagsReserved = 1 << 1
)

// Selectors of the descriptor table.
const (
	selectorCode = 1 << 3
	selectorData = 2 << 3
	selectorTSS  = 3 << 3
)

// Entry is where and in which state the boot processor starts.
type Entry struct {
	// RIP is the physical address of the first instruction.
	RIP uint64
	// Info is the physical address of the start information.
	Info uint64
	// PVH selects the 32-bit entry of the Xen PVH boot protocol (Info in EBX)
	// instead of Linux's 64-bit entry (Info in RSI).
	PVH bool
}

// WriteEntryTables writes the tables in guest memory that the processor's
// state at entry refers to.
func WriteEntryTables(mem *guestmem.Memory, e Entry) error {
	gdt := make([]byte, 0, 32)
	for _, s := range []kvm.Segment{{}, codeSegment(e.PVH), dataSegment(), taskSegment(e.PVH)} {
		gdt = binary.LittleEndian.AppendUint64(gdt, descriptor(s))
	}
	if err := mem.WriteAt(gdt, GDTAddr); err != nil {
		return fmt.Errorf("write descriptor table: %w", err)
	}
	if e.PVH {
		return nil
	}
	return writePageTables(mem)
}

// writePageTables maps the first 4 GiB to themselves in pages of 2 MiB.
func writePageTables(mem *guestmem.Memory) error {
	const present, writable, large = 1 << 0, 1 << 1, 1 << 7
	t := make([]byte, PageTablesEnd-PML4Addr)
	put := func(addr, entry uint64) { binary.LittleEndian.PutUint64(t[addr-PML4Addr:], entry) }
	put(PML4Addr, PDPTAddr|present|writable)
	for i := range uint64(4) {
		put(PDPTAddr+8*i, PDAddr+i<<12|present|writable)
	}
	for i := range uint64(4 * 512) {
		put(PDAddr+8*i, i<<21|present|writable|large)
	}
	if err := mem.WriteAt(t, PML4Addr); err != nil {
		return fmt.Errorf("write page tables: %w", err)
	}
	return nil
}

// SetEntry puts the boot processor in the state that e asks for.
func SetEntry(c *kvm.VCPU, e Entry) error {
	s, err := c.Sregs()
	if err != nil {
		return err
	}
	setSegments(&s, e.PVH)
	regs := kvm.Regs{RIP: e.RIP, RFLAGS: rflagsReserved}
	if e.PVH {
		regs.RBX = e.Info
		s.CR0, s.CR4, s.EFER = cr0PE|cr0ET, 0, 0
	} else {
		regs.RSI, regs.RSP, regs.RBP = e.Info, BootStackAddr, BootStackAddr
		s.CR0, s.CR3, s.CR4, s.EFER = cr0PE|cr0ET|cr0PG, PML4Addr, cr4PAE, eferLME|eferLMA
	}
	if err := c.SetSregs(s); err != nil {
		return err
	}
	return c.SetRegs(regs)
}

func setSegments(s *kvm.Sregs, pvh bool) {
	s.CS = codeSegment(pvh)
	data := dataSegment()
	s.DS, s.ES, s.FS, s.GS, s.SS = data, data, data, data, data
	s.TR = taskSegment(pvh)
	s.GDT = kvm.DTable{Base: GDTAddr, Limit: 4*8 - 1}
	s.IDT = kvm.DTable{}
}

// Segment types (Intel SDM volume 3, sections 3.4.5.1 and 3.5).
const (
	typeData    = 0x3 // read, write, accessed
	typeCode    = 0xb // execute, read, accessed
	typeBusyTSS = 0xb
)

func codeSegment(is32 bool) kvm.Segment {
	s := kvm.Segment{Selector: selectorCode, Type: typeCode, Present: 1, S: 1, G: 1, Limit: 0xffff_ffff}
	if is32 {
		s.DB = 1
	} else {
		s.L = 1
	}
	return s
}

func dataSegment() kvm.Segment {
	return kvm.Segment{Selector: selectorData, Type: typeData, Present: 1, S: 1, DB: 1, G: 1, Limit: 0xffff_ffff}
}

// taskSegment is the task register: PVH wants the shortest one, 0x67.
func taskSegment(pvh bool) kvm.Segment {
	s := kvm.Segment{Selector: selectorTSS, Type: typeBusyTSS, Present: 1, Limit: 0x67}
	if !pvh {
		s.Limit, s.G = 0xffff_ffff, 1
	}
	return s
}

// descriptor encodes s as an entry of a descriptor table.
func descriptor(s kvm.Segment) uint64 {
	limit := uint64(s.Limit)
	if s.G != 0 {
		limit >>= 12
	}
	d := limit&0xffff | limit&0xf_0000<<32
	d |= s.Base&0xff_ffff<<16 | s.Base&0xff00_0000<<32
	d |= uint64(s.Type)<<40 | uint64(s.S)<<44 | uint64(s.DPL)<<45 | uint64(s.Present)<<47
	d |= uint64(s.AVL)<<52 | uint64(s.L)<<53 | uint64(s.DB)<<54 | uint64(s.G)<<55
	return d
}
