package queue

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Chain is one buffer: what the driver wrote for the device, then room for the
// device's answer. The slices alias guest memory, which the guest may change
// at any time.
type Chain struct {
	// Head identifies the chain in Push.
	Head uint16
	// Readable holds what the device may read, in order.
	Readable [][]byte
	// Writable holds what the device may write, in order.
	Writable [][]byte
	// ReadableLen and WritableLen are the sums of the lengths in bytes; they
	// fit in 32 bits together.
	ReadableLen, WritableLen int
}

func (c *Chain) reset(head uint16) {
	c.Head = head
	c.Readable, c.Writable = c.Readable[:0], c.Writable[:0]
	c.ReadableLen, c.WritableLen = 0, 0
}

// Read copies the readable part, from its offset off, into p and returns the
// number of bytes copied.
func (c *Chain) Read(p []byte, off int) int { return gather(p, c.Readable, off) }

func gather(p []byte, bufs [][]byte, off int) int {
	n := 0
	for _, b := range bufs {
		if off >= len(b) {
			off -= len(b)
			continue
		}
		n += copy(p[n:], b[off:])
		off = 0
		if n == len(p) {
			break
		}
	}
	return n
}

// Write copies p to the writable part at its offset off and returns the number
// of bytes copied, less than len(p) when there is no room.
func (c *Chain) Write(p []byte, off int) int {
	n := 0
	for _, b := range c.Writable {
		if off >= len(b) {
			off -= len(b)
			continue
		}
		n += copy(b[off:], p[n:])
		off = 0
		if n == len(p) {
			break
		}
	}
	return n
}

// descriptor is a private copy of struct virtq_desc (section 2.7.5).
type descriptor struct {
	addr  uint64
	len   uint32
	flags uint16
	next  uint16
}

func readDescriptor(table []byte, i uint16) descriptor {
	b := table[descSize*int(i):]
	return descriptor{
		addr:  binary.LittleEndian.Uint64(b),
		len:   binary.LittleEndian.Uint32(b[8:]),
		flags: binary.LittleEndian.Uint16(b[12:]),
		next:  binary.LittleEndian.Uint16(b[14:]),
	}
}

// walk follows the chain at head into c. It ends after at most Size
// descriptors, whatever their links say.
func (q *Queue) walk(head uint16, c *Chain) error {
	c.reset(head)
	table, entries, i := q.desc, q.size, head
	nested := false
	for len(c.Readable)+len(c.Writable) < int(q.size) {
		d := readDescriptor(table, i)
		if d.flags&descFIndirect != 0 {
			if nested || d.flags&(descFNext|descFWrite) != 0 {
				return fmt.Errorf("%w: indirect descriptor with flags %#x", ErrBroken, d.flags)
			}
			var err error
			if table, entries, err = q.indirectTable(d); err != nil {
				return err
			}
			nested, i = true, 0
			continue
		}
		if err := q.add(c, d); err != nil {
			return err
		}
		if d.flags&descFNext == 0 {
			return nil
		}
		if i = d.next; i >= entries {
			return fmt.Errorf("%w: next %d in a table of %d", ErrBroken, i, entries)
		}
	}
	return fmt.Errorf("%w: chain longer than the ring of %d", ErrBroken, q.size)
}

// indirectTable checks and maps an indirect table (section 2.7.5.3).
func (q *Queue) indirectTable(d descriptor) ([]byte, uint16, error) {
	if !q.indirect {
		return nil, 0, fmt.Errorf("%w: indirect descriptor was not negotiated", ErrBroken)
	}
	n := d.len / descSize
	if d.len%descSize != 0 || n == 0 || n > uint32(q.size) {
		return nil, 0, fmt.Errorf("%w: indirect table of %d bytes in a ring of %d", ErrBroken, d.len, q.size)
	}
	table, err := q.mem.Slice(d.addr, uint64(d.len))
	if err != nil {
		return nil, 0, fmt.Errorf("%w: indirect table: %w", ErrBroken, err)
	}
	return table, uint16(n), nil
}

func (q *Queue) add(c *Chain, d descriptor) error {
	if d.len == 0 || d.addr == 0 {
		return fmt.Errorf("%w: descriptor of %d bytes at %#x", ErrBroken, d.len, d.addr)
	}
	if uint64(c.ReadableLen)+uint64(c.WritableLen)+uint64(d.len) > math.MaxUint32 {
		return fmt.Errorf("%w: chain over 4 GiB", ErrBroken)
	}
	b, err := q.mem.Slice(d.addr, uint64(d.len))
	if err != nil {
		return fmt.Errorf("%w: descriptor: %w", ErrBroken, err)
	}
	if d.flags&descFWrite != 0 {
		c.Writable = append(c.Writable, b)
		c.WritableLen += len(b)
		return nil
	}
	if len(c.Writable) != 0 {
		return fmt.Errorf("%w: readable descriptor after a writable one", ErrBroken)
	}
	c.Readable = append(c.Readable, b)
	c.ReadableLen += len(b)
	return nil
}
