// Package guestmem is the guest's physical memory as the VM process sees it:
// regions of shared, file-backed memory addressed by guest physical address.
//
// Every address and length that reaches this package may have been chosen by
// the guest. Slice is the only way from an address to bytes, and it checks.
// The returned slices alias memory that the guest changes at any time: copy
// once, then decide on the copy.
package guestmem

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// ErrOutOfRange says that an address range is not wholly inside one region.
var ErrOutOfRange = errors.New("address range outside guest memory")

// Region is a run of guest physical memory that is contiguous on both sides.
type Region struct {
	// Base is the guest physical address of the first byte.
	Base uint64
	// Data is the mapping of the region in this process; its length is the
	// region's size in bytes.
	Data []byte
	// File backs the mapping, so that it can be handed to another process.
	File *os.File
	// Offset is where the region starts in File, in bytes.
	Offset int64
}

func (r *Region) contains(addr, n uint64) bool {
	size := uint64(len(r.Data))
	return addr >= r.Base && addr-r.Base <= size && n <= size-(addr-r.Base)
}

// Memory is a set of regions. It is immutable after New and safe for
// concurrent use; Close must come after the last use of any slice.
type Memory struct {
	regions []Region
	close   func() error
}

// New makes a memory of the regions, which it takes over: Close calls release
// (which may be nil). Regions that overlap are refused.
func New(regions []Region, release func() error) (*Memory, error) {
	sorted := slices.Clone(regions)
	slices.SortFunc(sorted, func(a, b Region) int {
		if a.Base < b.Base {
			return -1
		}
		return 1
	})
	for i := range sorted {
		end := sorted[i].Base + uint64(len(sorted[i].Data))
		if len(sorted[i].Data) == 0 || end < sorted[i].Base {
			return nil, fmt.Errorf("add region %#x: empty or wraps", sorted[i].Base)
		}
		if i+1 < len(sorted) && end > sorted[i+1].Base {
			return nil, fmt.Errorf("add region %#x: overlaps %#x", sorted[i+1].Base, sorted[i].Base)
		}
	}
	return &Memory{regions: sorted, close: release}, nil
}

// Regions returns the regions in ascending order of address. The caller must
// not change them.
func (m *Memory) Regions() []Region { return m.regions }

// Size is the sum of all regions in bytes.
func (m *Memory) Size() uint64 {
	var n uint64
	for i := range m.regions {
		n += uint64(len(m.regions[i].Data))
	}
	return n
}

// Slice returns the n bytes at guest physical address addr. It fails with
// ErrOutOfRange unless the whole range lies in one region. The capacity of the
// result ends with it.
func (m *Memory) Slice(addr, n uint64) ([]byte, error) {
	for i := range m.regions {
		r := &m.regions[i]
		if r.contains(addr, n) {
			off := addr - r.Base
			return r.Data[off : off+n : off+n], nil
		}
	}
	return nil, fmt.Errorf("%#x+%#x: %w", addr, n, ErrOutOfRange)
}

// WriteAt copies p to guest physical address addr.
func (m *Memory) WriteAt(p []byte, addr uint64) error {
	b, err := m.Slice(addr, uint64(len(p)))
	if err != nil {
		return err
	}
	copy(b, p)
	return nil
}

// Close unmaps the memory. No slice of it may be used afterwards.
func (m *Memory) Close() error {
	if m.close == nil {
		return nil
	}
	return m.close()
}

// Range is a run of guest physical addresses, in bytes.
type Range struct {
	Base, Size uint64
}

// Allocate backs the ranges with one file in memory and maps them. Pages cost
// nothing until they are touched. Where the host allows it they are huge ones,
// which spares the guest most of its faults.
func Allocate(name string, ranges []Range) (*Memory, error) {
	return allocate(name, ranges, createFile)
}

// AllocateSealed is Allocate for memory that is handed to another process: it
// is sealed against a change of its size, but has no huge pages.
func AllocateSealed(name string, ranges []Range) (*Memory, error) {
	return allocate(name, ranges, createMemfd)
}

func allocate(name string, ranges []Range, create func(string, int64) (*os.File, error)) (*Memory, error) {
	var total uint64
	for _, r := range ranges {
		total += r.Size
	}
	f, err := create(name, int64(total))
	if err != nil {
		return nil, fmt.Errorf("create %d MiB of guest memory: %w", total>>20, err)
	}
	regions, err := mapRanges(f, ranges)
	if err != nil {
		f.Close()
		return nil, err
	}
	release := func() error {
		return errors.Join(unmap(regions), f.Close())
	}
	m, err := New(regions, release)
	if err != nil {
		return nil, errors.Join(err, release())
	}
	return m, nil
}

func mapRanges(f *os.File, ranges []Range) ([]Region, error) {
	var regions []Region
	var off int64
	for _, r := range ranges {
		data, err := unix.Mmap(int(f.Fd()), off, int(r.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("map %d MiB of guest memory at %#x: %w", r.Size>>20, r.Base, err), unmap(regions))
		}
		// Only a hint: the host may not have huge pages.
		_ = unix.Madvise(data, unix.MADV_HUGEPAGE)
		regions = append(regions, Region{Base: r.Base, Data: data, File: f, Offset: off})
		off += int64(r.Size)
	}
	return regions, nil
}

func unmap(regions []Region) error {
	var errs []error
	for _, r := range regions {
		errs = append(errs, unix.Munmap(r.Data))
	}
	return errors.Join(errs...)
}
