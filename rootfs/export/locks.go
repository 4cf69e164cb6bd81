package export

import (
	"math"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// fileLocks are the POSIX locks that the guest's processes hold on a file. On
// the host each owner has an open file description of its own, and locks it
// with F_OFD_SETLK: so they conflict with each other and with the host's.
type fileLocks struct {
	mu      sync.Mutex
	owners  map[uint64]*lockOwner
	closed  bool
	changed chan struct{} // closed when a lock may have been released
}

// lockOwner is a process of the guest, or an open file (F_OFD_SETLK).
type lockOwner struct {
	fd int
	// handle is the open file through which it has asked for locks, 0 for several. Of
	// the close of an open file that is an owner the guest tells by RELEASE alone; a
	// process has sent FLUSH before, and may have come back through another file.
	handle uint64
}

// of returns the descriptor of owner, who asks through h, a new one if needed.
func (l *fileLocks) of(s *Server, h *handle, owner uint64) (int, error) {
	if o := l.owners[owner]; o != nil {
		if o.handle != h.id {
			o.handle = 0
		}
		return o.fd, nil
	}
	if l.closed {
		return -1, unix.ESTALE
	}
	fd, err := s.openForLock(h.node)
	if err != nil {
		return -1, err
	}
	if l.owners == nil {
		l.owners = map[uint64]*lockOwner{}
	}
	l.owners[owner] = &lockOwner{fd, h.id}
	return fd, nil
}

// openForLock opens n for both kinds of locks, or for shared ones where the
// file can't be written.
func (s *Server) openForLock(n *node) (int, error) {
	if !n.exp.policy.ReadOnly {
		if fd, err := s.openFD(n, unix.O_RDWR); err == nil {
			return fd, nil
		}
	}
	return s.openFD(n, unix.O_RDONLY)
}

// wakeLocked tells everyone who waits to try again. l.mu is held.
func (l *fileLocks) wakeLocked() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

func (l *fileLocks) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wakeLocked()
}

// change returns a channel that is closed at the next wake.
func (l *fileLocks) change() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.changed
}

// closeOwner drops owner's locks, as close(2) of any of its descriptors does.
func (l *fileLocks) closeOwner(h *host, e *export, owner uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.owners[owner] != nil {
		l.dropLocked(h, e, owner)
	}
}

// closeHandle drops the locks of who has asked for them through one open file, which
// is being closed.
func (l *fileLocks) closeHandle(h *host, e *export, handle uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for owner, o := range l.owners {
		if o.handle == handle {
			l.dropLocked(h, e, owner)
		}
	}
}

func (l *fileLocks) closeAll(h *host, e *export) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for owner := range l.owners {
		l.dropLocked(h, e, owner)
	}
	l.wakeLocked()
}

// dropLocked drops the locks of an owner that there is. l.mu is held.
func (l *fileLocks) dropLocked(h *host, e *export, owner uint64) {
	h.fds.close(e, l.owners[owner].fd)
	delete(l.owners, owner)
	l.wakeLocked()
}

// lockIn is struct fuse_lk_in.
type lockIn struct {
	id, owner  uint64
	start, end uint64
	kind       uint32 // F_RDLCK, F_WRLCK, F_UNLCK
	flock      bool
}

func parseLock(in decoder) lockIn {
	a := lockIn{id: in.u64(), owner: in.u64(), start: in.u64(), end: in.u64(), kind: in.u32()}
	in.skip(4) // pid
	a.flock = in.u32()&lockFlock != 0
	return a
}

// check refuses ranges and kinds that make no sense.
func (a *lockIn) check() error {
	if a.start > a.end || a.end > math.MaxInt64 || a.kind > unix.F_UNLCK {
		return unix.EINVAL
	}
	return nil
}

// host is the range for fcntl(2), where length 0 means to the end.
func (a *lockIn) host() unix.Flock_t {
	l := unix.Flock_t{Type: int16(a.kind), Start: int64(a.start)}
	if a.end != math.MaxInt64 {
		l.Len = int64(a.end-a.start) + 1
	}
	return l
}

// lockArgs checks a lock request and returns it with the open file it names.
func (s *Server) lockArgs(c *call, n *node) (lockIn, *handle, error) {
	a := parseLock(c.args())
	if !s.opts.Locks {
		return a, nil, unix.ENOSYS
	}
	if err := a.check(); err != nil {
		return a, nil, err
	}
	if !n.isRegular() && !n.isDir() {
		return a, nil, unix.EINVAL
	}
	h, err := s.handleOf(a.id, n)
	return a, h, err
}

// getlk serves GETLK: which lock is in the way.
func (s *Server) getlk(c *call, n *node) error {
	a, h, err := s.lockArgs(c, n)
	if err != nil {
		return err
	}
	defer s.put(h)
	n.locks.mu.Lock()
	defer n.locks.mu.Unlock()
	fd, err := n.locks.of(s, h, a.owner)
	if err != nil {
		return err
	}
	l := a.host()
	if err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &l); err != nil {
		return err
	}
	end := uint64(math.MaxInt64)
	if l.Len != 0 {
		end = uint64(l.Start + l.Len - 1)
	}
	c.out.u64(uint64(l.Start))
	c.out.u64(end)
	c.out.u32(uint32(l.Type))
	c.out.u32(0) // the holder's pid means nothing in the guest
	return nil
}

// setlk serves SETLK: take or release a lock now, or fail with EAGAIN.
func (s *Server) setlk(c *call, n *node) error {
	a, h, err := s.lockArgs(c, n)
	if err != nil {
		return err
	}
	defer s.put(h)
	return s.tryLock(n, h, &a)
}

// tryLock takes or releases a lock without waiting.
func (s *Server) tryLock(n *node, h *handle, a *lockIn) error {
	if a.flock {
		return tryFlock(h, a.kind)
	}
	n.locks.mu.Lock()
	defer n.locks.mu.Unlock()
	fd, err := n.locks.of(s, h, a.owner)
	if err != nil {
		return err
	}
	l := a.host()
	if err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &l); err != nil {
		return err
	}
	if a.kind != unix.F_WRLCK {
		n.locks.wakeLocked()
	}
	return nil
}

func tryFlock(h *handle, kind uint32) error {
	how := map[uint32]int{unix.F_RDLCK: unix.LOCK_SH, unix.F_WRLCK: unix.LOCK_EX, unix.F_UNLCK: unix.LOCK_UN}[kind]
	if err := unix.Flock(h.fd, how|unix.LOCK_NB); err != nil {
		return err
	}
	h.flocked.Store(true)
	if kind != unix.F_WRLCK {
		h.node.locks.wake()
	}
	return nil
}

// How often a lock is tried again that somebody on the host may hold. A lock
// that the guest itself holds is tried at its release.
const (
	firstRetry = time.Millisecond
	lastRetry  = 50 * time.Millisecond
)

// setlkw serves SETLKW: as SETLK, but wait. Waiting holds no thread.
func (s *Server) setlkw(c *call, n *node) error {
	a, h, err := s.lockArgs(c, n)
	if err != nil {
		return err
	}
	defer s.put(h)
	c.dropBody()
	interrupted, done := s.waits.enter(c.unique)
	defer done()
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		changed := n.locks.change()
		if err := s.tryLock(n, h, &a); err != unix.EAGAIN && err != unix.EACCES {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-changed:
		case <-timer.C:
		case <-interrupted:
			timer.Stop()
			return unix.EINTR
		case <-s.waits.ended():
			timer.Stop()
			return unix.EINTR
		case <-n.exp.gone:
			timer.Stop()
			return unix.ESTALE
		}
		timer.Stop()
	}
}
