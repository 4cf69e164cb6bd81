package vhostuser

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm/guestmem"
)

// memTable is the guest's memory as the front end described it, mapped here.
type memTable struct {
	regions []mappedRegion
	mem     *guestmem.Memory
}

// mappedRegion is a region with what identifies its file, so that two tables
// can be compared.
type mappedRegion struct {
	memRegion
	device, inode uint64
}

// mapTable maps the regions; files has one descriptor for each and is taken
// over, also on error.
func mapTable(regions []memRegion, files []*os.File) (*memTable, error) {
	t := &memTable{}
	var mapped []guestmem.Region
	release := func() error {
		var errs []error
		for _, r := range mapped {
			errs = append(errs, unix.Munmap(r.Data))
		}
		closeAll(files)
		return errors.Join(errs...)
	}
	for i, r := range regions {
		m, id, err := mapRegion(r, files[i])
		if err != nil {
			return nil, errors.Join(err, release())
		}
		mapped, t.regions = append(mapped, m), append(t.regions, id)
	}
	mem, err := guestmem.New(mapped, release)
	if err == nil {
		err = t.checkUser()
	} else {
		err = fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if err != nil {
		return nil, errors.Join(err, release())
	}
	t.mem = mem
	return t, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// mapRegion maps r from f, which has to be sealed against shrinking: else the
// front end could turn our next access into SIGBUS.
func mapRegion(r memRegion, f *os.File) (guestmem.Region, mappedRegion, error) {
	fail := func(err error) (guestmem.Region, mappedRegion, error) {
		return guestmem.Region{}, mappedRegion{}, fmt.Errorf("map region of %d bytes at %#x: %w", r.size, r.guest, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fail(err)
	}
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if err != nil || seals&unix.F_SEAL_SHRINK == 0 {
		return fail(fmt.Errorf("%w: memory is not sealed against shrinking", ErrProtocol))
	}
	size := uint64(st.Size)
	if r.size == 0 || r.size > math.MaxInt || r.offset > size || r.size > size-r.offset || r.offset%uint64(os.Getpagesize()) != 0 {
		return fail(fmt.Errorf("%w: offset %#x in a file of %#x bytes", ErrProtocol, r.offset, size))
	}
	data, err := unix.Mmap(int(f.Fd()), int64(r.offset), int(r.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		return fail(err)
	}
	return guestmem.Region{Base: r.guest, Data: data, File: f, Offset: int64(r.offset)},
		mappedRegion{memRegion: r, device: st.Dev, inode: st.Ino}, nil
}

// checkUser refuses regions whose front-end addresses wrap or overlap, as a
// ring's address would then have two meanings.
func (t *memTable) checkUser() error {
	for i, a := range t.regions {
		if a.user+a.size < a.user {
			return fmt.Errorf("%w: region at %#x wraps the front end's addresses", ErrProtocol, a.user)
		}
		for _, b := range t.regions[:i] {
			if a.user < b.user+b.size && b.user < a.user+a.size {
				return fmt.Errorf("%w: regions at %#x and %#x overlap in the front end", ErrProtocol, a.user, b.user)
			}
		}
	}
	return nil
}

// guestAddr translates an address of the front end to a guest physical one.
func (t *memTable) guestAddr(user uint64) (uint64, error) {
	for _, r := range t.regions {
		if user >= r.user && user-r.user < r.size {
			return r.guest + (user - r.user), nil
		}
	}
	return 0, fmt.Errorf("%w: address %#x is in no region", ErrProtocol, user)
}

// covers says whether every region of old is in t too, unchanged: what was
// mapped by old stays valid memory of the guest.
func (t *memTable) covers(old *memTable) bool {
	for _, r := range old.regions {
		if !slices.Contains(t.regions, r) {
			return false
		}
	}
	return true
}

// close unmaps the memory.
func (t *memTable) close() error { return t.mem.Close() }
