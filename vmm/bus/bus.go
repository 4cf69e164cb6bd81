// Package bus finds the device behind an address: I/O ports and memory-mapped
// registers are a Bus each.
//
// A Bus is built before the guest runs and immutable from then on, so that
// vCPUs use it without a lock. Devices lock for themselves.
package bus

import (
	"errors"
	"fmt"
	"sort"
	"sync/atomic"
)

// ErrTaken is wrapped when a range overlaps one that is in use.
var ErrTaken = errors.New("address range is taken")

// Device answers accesses in its range. The guest chooses offset, width and
// data: a device must cope with every width from 1 to 8 and every offset for
// which the access ends inside of its range. vCPUs call it concurrently.
type Device interface {
	// Read fills p with what lies at offset.
	Read(offset uint64, p []byte)
	// Write stores p at offset.
	Write(offset uint64, p []byte)
}

// Bus maps ranges of addresses to devices.
type Bus struct {
	name   string
	ranges []mapped // in ascending order, disjoint

	unknown atomic.Uint64
	report  func(addr uint64, width int, write bool)
}

type mapped struct {
	base, size uint64
	dev        Device
}

// New makes an empty bus; name is for errors. Accesses that no device answers
// are passed to report (which may be nil, and which limits itself).
func New(name string, report func(addr uint64, width int, write bool)) *Bus {
	if report == nil {
		report = func(uint64, int, bool) {}
	}
	return &Bus{name: name, report: report}
}

// Insert gives size addresses from base to dev. It fails with ErrTaken when
// they overlap those of another.
func (b *Bus) Insert(base, size uint64, dev Device) error {
	if size == 0 || base+size-1 < base {
		return fmt.Errorf("insert %#x+%#x on the %s bus: empty or wraps", base, size, b.name)
	}
	i := b.after(base)
	overlaps := i > 0 && base-b.ranges[i-1].base < b.ranges[i-1].size ||
		i < len(b.ranges) && b.ranges[i].base-base < size
	if overlaps {
		return fmt.Errorf("insert %#x+%#x on the %s bus: %w", base, size, b.name, ErrTaken)
	}
	b.ranges = append(b.ranges, mapped{})
	copy(b.ranges[i+1:], b.ranges[i:])
	b.ranges[i] = mapped{base, size, dev}
	return nil
}

// after is the index of the first range that starts above addr.
func (b *Bus) after(addr uint64) int {
	return sort.Search(len(b.ranges), func(i int) bool { return b.ranges[i].base > addr })
}

// find returns the device whose range holds all n bytes at addr.
func (b *Bus) find(addr, n uint64) (Device, uint64) {
	i := b.after(addr) - 1
	if i < 0 {
		return nil, 0
	}
	r := &b.ranges[i]
	off := addr - r.base
	if off >= r.size || n > r.size-off {
		return nil, 0
	}
	return r.dev, off
}

// Read fills p from addr. What no device answers, or crosses the end of one,
// reads as all ones, as on real hardware.
func (b *Bus) Read(addr uint64, p []byte) {
	if dev, off := b.find(addr, uint64(len(p))); dev != nil {
		dev.Read(off, p)
		return
	}
	for i := range p {
		p[i] = 0xff
	}
	b.miss(addr, len(p), false)
}

// Write stores p at addr. What no device answers, or crosses the end of one,
// is dropped.
func (b *Bus) Write(addr uint64, p []byte) {
	if dev, off := b.find(addr, uint64(len(p))); dev != nil {
		dev.Write(off, p)
		return
	}
	b.miss(addr, len(p), true)
}

func (b *Bus) miss(addr uint64, width int, write bool) {
	b.unknown.Add(1)
	b.report(addr, width, write)
}

// Unknown is how many accesses no device answered.
func (b *Bus) Unknown() uint64 { return b.unknown.Load() }
