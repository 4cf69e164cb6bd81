package boot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/microvm/microvm/vmm/guestmem"
	"github.com/microvm/microvm/vmm/x86"
)

// ErrKernel is wrapped when a kernel image can't be used.
var ErrKernel = errors.New("unusable kernel image")

// Layout and values of ELF64 (System V ABI, chapters 4 and 5). debug/elf would
// read and allocate for every section; these few fields are all that a start
// needs.
const (
	elfHeaderSize  = 64
	elfProgramSize = 56
	elfMachineX86  = 62 // EM_X86_64
	elfLoad        = 1  // PT_LOAD
	elfNote        = 4  // PT_NOTE

	// maxPrograms and maxNotes bound what is read of an image; a vmlinux has
	// five program headers and notes of 500 bytes.
	maxPrograms = 64
	maxNotes    = 64 << 10
)

// Kernel is a kernel that Load has put into guest memory.
type Kernel struct {
	// Entry is the physical address of its first instruction.
	Entry uint64
	// PVH says that Entry is the 32-bit PVH entry.
	PVH bool
	// End is the physical address behind its last byte.
	End uint64
}

// program is a program header, less what is not needed.
type program struct {
	kind                          uint32
	offset, addr, inFile, inGuest uint64
}

// Load copies the segments of the ELF image into fresh guest memory. Errors of
// the image wrap ErrKernel.
func Load(mem *guestmem.Memory, image io.ReaderAt) (Kernel, error) {
	entry, programs, err := readHeaders(image)
	if err != nil {
		return Kernel{}, err
	}
	k := Kernel{Entry: entry}
	for _, p := range programs {
		switch {
		case p.kind == elfLoad && p.inGuest > 0:
			if err := loadSegment(mem, image, p); err != nil {
				return Kernel{}, err
			}
			k.End = max(k.End, p.addr+p.inGuest)
		case p.kind == elfNote:
			if e, ok := pvhEntry(image, p); ok {
				k.Entry, k.PVH = e, true
			}
		}
	}
	if k.Entry < x86.HighMemory || k.Entry >= k.End {
		return Kernel{}, fmt.Errorf("%w: entry %#x is outside of its segments", ErrKernel, k.Entry)
	}
	return k, nil
}

func readHeaders(image io.ReaderAt) (entry uint64, programs []program, err error) {
	var h [elfHeaderSize]byte
	if _, err := image.ReadAt(h[:], 0); err != nil {
		return 0, nil, fmt.Errorf("%w: read its header: %w", ErrKernel, err)
	}
	if err := checkHeader(h[:]); err != nil {
		return 0, nil, err
	}
	le := binary.LittleEndian
	off, n := le.Uint64(h[32:]), le.Uint16(h[56:])
	if n == 0 || n > maxPrograms || le.Uint16(h[54:]) != elfProgramSize {
		return 0, nil, fmt.Errorf("%w: %d program headers of %d bytes", ErrKernel, n, le.Uint16(h[54:]))
	}
	table := make([]byte, int(n)*elfProgramSize)
	if err := readFull(image, table, off); err != nil {
		return 0, nil, fmt.Errorf("%w: read its program headers: %w", ErrKernel, err)
	}
	for ; len(table) > 0; table = table[elfProgramSize:] {
		programs = append(programs, program{
			kind: le.Uint32(table), offset: le.Uint64(table[8:]), addr: le.Uint64(table[24:]),
			inFile: le.Uint64(table[32:]), inGuest: le.Uint64(table[40:]),
		})
	}
	return le.Uint64(h[24:]), programs, nil
}

func checkHeader(h []byte) error {
	const class64LittleEndian = "\x7fELF\x02\x01\x01"
	switch {
	case bytes.HasPrefix(h, []byte(class64LittleEndian)):
	case bytes.HasPrefix(h, []byte("MZ")):
		return fmt.Errorf("%w: it is compressed (bzImage), want the uncompressed vmlinux", ErrKernel)
	default:
		return fmt.Errorf("%w: it is no 64-bit ELF file", ErrKernel)
	}
	if m := binary.LittleEndian.Uint16(h[18:]); m != elfMachineX86 {
		return fmt.Errorf("%w: it is for ELF machine %d, want x86-64", ErrKernel, m)
	}
	return nil
}

func loadSegment(mem *guestmem.Memory, image io.ReaderAt, p program) error {
	if p.addr < x86.HighMemory || p.inFile > p.inGuest {
		return fmt.Errorf("%w: segment of %#x bytes (%#x in the file) at %#x", ErrKernel, p.inGuest, p.inFile, p.addr)
	}
	dst, err := mem.Slice(p.addr, p.inGuest)
	if err != nil {
		return fmt.Errorf("%w: segment does not fit into guest memory: %w", ErrKernel, err)
	}
	// What follows inFile reads as zero already: the memory is fresh.
	if err := readFull(image, dst[:p.inFile], p.offset); err != nil {
		return fmt.Errorf("%w: read segment at %#x: %w", ErrKernel, p.addr, err)
	}
	return nil
}

// readFull reads all of p at off.
func readFull(r io.ReaderAt, p []byte, off uint64) error {
	if int64(off) < 0 {
		return fmt.Errorf("offset %#x: %w", off, io.ErrUnexpectedEOF)
	}
	n, err := r.ReadAt(p, int64(off))
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// pvhEntry looks for the note XEN_ELFNOTE_PHYS32_ENTRY of owner "Xen"
// (xen/include/public/elfnote.h).
func pvhEntry(image io.ReaderAt, p program) (uint64, bool) {
	const phys32Entry = 18
	if p.inFile > maxNotes {
		return 0, false
	}
	b := make([]byte, p.inFile)
	if readFull(image, b, p.offset) != nil {
		return 0, false
	}
	for len(b) > 0 {
		n, rest, ok := cutNote(b)
		if !ok {
			return 0, false
		}
		if n.kind == phys32Entry && string(n.name) == "Xen\x00" {
			return n.number()
		}
		b = rest
	}
	return 0, false
}

// note is one entry of a note segment.
type note struct {
	kind       uint32
	name, desc []byte
}

// cutNote takes the first note off b.
func cutNote(b []byte) (n note, rest []byte, ok bool) {
	const header = 12
	if len(b) < header {
		return n, nil, false
	}
	nameLen := uint64(binary.LittleEndian.Uint32(b))
	descLen := uint64(binary.LittleEndian.Uint32(b[4:]))
	descAt := header + (nameLen+3)&^3
	end := descAt + (descLen+3)&^3
	if descAt+descLen > uint64(len(b)) {
		return n, nil, false
	}
	n = note{kind: binary.LittleEndian.Uint32(b[8:]), name: b[header : header+nameLen], desc: b[descAt : descAt+descLen]}
	return n, b[min(end, uint64(len(b))):], true
}

// number is a descriptor of 4 or 8 bytes.
func (n note) number() (uint64, bool) {
	switch len(n.desc) {
	case 4:
		return uint64(binary.LittleEndian.Uint32(n.desc)), true
	case 8:
		return binary.LittleEndian.Uint64(n.desc), true
	default:
		return 0, false
	}
}
