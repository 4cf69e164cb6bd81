package export

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Cache says how long the guest may believe what it has seen.
type Cache int

const (
	// CacheAuto lets the guest see a change on the host within a second, and
	// at once when it opens the file.
	CacheAuto Cache = iota
	// CacheNever asks the host every time.
	CacheNever
	// CacheAlways is for what does not change while it is exported.
	CacheAlways
)

// ParseCache reads the name of a cache policy; none is auto.
func ParseCache(name string) (Cache, error) {
	switch name {
	case "", "auto":
		return CacheAuto, nil
	case "never":
		return CacheNever, nil
	case "always":
		return CacheAlways, nil
	default:
		return 0, fmt.Errorf("cache policy %q: want auto, always or never", name)
	}
}

// lifetime is how long entries and attributes stay valid.
func (c Cache) lifetime() time.Duration {
	switch c {
	case CacheNever:
		return 0
	case CacheAlways:
		return 24 * time.Hour
	default:
		return time.Second
	}
}

// Policy is what a guest may do with an export.
type Policy struct {
	// ReadOnly refuses every change with EROFS.
	ReadOnly bool
	// Cache is how long the guest may keep what it has seen.
	Cache Cache
	// Devices lets the guest create device nodes. Without it mknod of a
	// device is EPERM, but for 0/0, which is no device but the whiteout mark
	// of overlayfs. The server itself never opens a device.
	Devices bool
	// OneDevice keeps Options.Submounts from applying: Linux maps no ids of
	// what it took for another device (fuse_fill_super_submount in
	// fs/fuse/inode.c), and overlayfs refuses to have it as a layer.
	OneDevice bool
}

// export is one child of the share's root.
type export struct {
	name   string
	policy Policy
	// order is the position in the listing of the root; never used again.
	order uint64
	root  *node
	// lateErrors says that the host's file system may report an error of a
	// write only at close, so that FLUSH must be asked for.
	lateErrors bool

	gone chan struct{} // closed when the export is being removed
	// fds counts descriptors; from 0 it never rises again.
	fds    atomic.Int64
	closed chan struct{} // closed when fds reaches 0
}

// newExport opens f anew and registers its node. The caller retires the export
// when it is not to be used.
func (s *Server) newExport(name string, f *os.File, p Policy) (*export, error) {
	e := &export{
		name: name, policy: p,
		gone: make(chan struct{}), closed: make(chan struct{}),
	}
	fd, err := s.host.reopen(int(f.Fd()), unix.O_PATH)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	var st unix.Statx_t
	if err := statxFD(fd, &st); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("stat: %w", err)
	}
	if t := st.Mode & unix.S_IFMT; t != unix.S_IFDIR && t != unix.S_IFREG {
		unix.Close(fd)
		return nil, fmt.Errorf("%w: neither a directory nor a regular file", os.ErrInvalid)
	}
	e.lateErrors = lateErrors(fd)
	e.fds.Store(1)
	s.host.fds.live.Add(1)
	e.root = s.nodes.insert(s.host.newNode(e, fd, &st))
	return e, nil
}

// lateErrors knows the local file systems that have nothing to say at close.
func lateErrors(fd int) bool {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return true
	}
	switch st.Type {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC,
		unix.TMPFS_MAGIC, unix.RAMFS_MAGIC, unix.OVERLAYFS_SUPER_MAGIC, unix.EROFS_SUPER_MAGIC_V1,
		unix.SQUASHFS_MAGIC, zfsMagic:
		return false
	}
	return true
}

const zfsMagic = 0x2fc12fc1 // not in linux/magic.h

func (e *export) isGone() bool {
	select {
	case <-e.gone:
		return true
	default:
		return false
	}
}

// registry is the synthetic root directory.
type registry struct {
	mu     sync.RWMutex
	byName map[string]*export
	next   uint64
	mtime  time.Time // of the last change
}

func (r *registry) init() {
	r.byName = map[string]*export{}
	r.mtime = time.Now()
}

func (r *registry) add(e *export) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byName[e.name] != nil {
		return os.ErrExist
	}
	r.next++
	e.order = r.next
	r.byName[e.name] = e
	r.mtime = time.Now()
	return nil
}

func (r *registry) remove(name string) *export {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.byName[name]
	if e != nil {
		delete(r.byName, name)
		r.mtime = time.Now()
	}
	return e
}

func (r *registry) find(name string) *export {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byName[name]
}

// all returns the exports in the order of their addition.
func (r *registry) all() []*export {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list := make([]*export, 0, len(r.byName))
	for _, e := range r.byName {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b *export) int { return cmp.Compare(a.order, b.order) })
	return list
}

// stat returns the root's number of exports and time of last change.
func (r *registry) stat() (int, time.Time) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.byName), r.mtime
}
