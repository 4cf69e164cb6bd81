package queue

import "unsafe"

// load16 reads *p with acquire semantics. Go has no 16-bit atomics, and ring
// indices are 16 bits wide.
//
//go:noescape
func load16(p *uint16) uint16

// store16 writes *p with release semantics.
//
//go:noescape
func store16(p *uint16, v uint16)

// fence orders every access before it before every access after it, stores
// before loads too.
func fence()

// at returns b[off:off+2] as a pointer. Offsets are even and the ring's base
// is at least 2-byte aligned (checked by New), so the access is aligned.
func at(b []byte, off int) *uint16 {
	return (*uint16)(unsafe.Pointer(&b[off : off+2][0]))
}
