// Package boottest builds tiny kernels for tests.
package boottest

import "encoding/binary"

// Addr is where a kernel of this package is loaded and entered.
const Addr = 0x10_0000

// Image describes an ELF kernel with one segment, which Bytes encodes without
// looking at what the values mean.
type Image struct {
	// Code is the contents of the segment at Addr.
	Code []byte
	// BSS is how many bytes of memory follow Code.
	BSS uint64
	// Addr of the segment; 0 is the constant Addr.
	Addr uint64
	// Entry is the address in the ELF header; 0 is the segment's.
	Entry uint64
	// PVH adds a note that makes the segment's address the PVH entry.
	PVH bool
}

// ELF layout, see package boot.
const (
	headerSize  = 64
	programSize = 56
	programs    = 2
	noteAt      = headerSize + programs*programSize
	noteSize    = 12 + 4 + 4
	codeAt      = 0x100
)

// Bytes is the file.
func (i Image) Bytes() []byte {
	if i.Addr == 0 {
		i.Addr = Addr
	}
	if i.Entry == 0 {
		i.Entry = i.Addr
	}
	le := binary.LittleEndian
	b := make([]byte, codeAt, codeAt+len(i.Code))
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 2)  // ET_EXEC
	le.PutUint16(b[18:], 62) // EM_X86_64
	le.PutUint64(b[24:], i.Entry)
	le.PutUint64(b[32:], headerSize) // program headers
	le.PutUint16(b[54:], programSize)
	le.PutUint16(b[56:], programs)
	program(b[headerSize:], 1, codeAt, i.Addr, uint64(len(i.Code)), uint64(len(i.Code))+i.BSS)
	if i.PVH {
		program(b[headerSize+programSize:], 4, noteAt, 0, noteSize, noteSize)
		copy(b[noteAt:], "\x04\x00\x00\x00\x04\x00\x00\x00\x12\x00\x00\x00Xen\x00")
		le.PutUint32(b[noteAt+16:], uint32(i.Addr))
	}
	return append(b, i.Code...)
}

func program(b []byte, kind uint32, off, addr, inFile, inGuest uint64) {
	le := binary.LittleEndian
	le.PutUint32(b, kind)
	le.PutUint64(b[8:], off)
	le.PutUint64(b[24:], addr)
	le.PutUint64(b[32:], inFile)
	le.PutUint64(b[40:], inGuest)
}
