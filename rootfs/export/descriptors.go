package export

import (
	"container/list"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// descriptors keeps the number of open descriptors in bounds, whatever the
// guest looks up or opens.
//
// A node's O_PATH descriptor that nobody uses may be closed when the inode is found
// again where the guest has found it: at most soft of them stay open, the least
// recently used ones go. Everything else counts against hard, and then fails with
// ENFILE.
//
// File handles (open_by_handle_at(2)) would find inodes wherever they are, but those of
// the whole file system, whether they are in an export or not.
type descriptors struct {
	soft int
	hard int64
	live atomic.Int64
	// evicted is how many nodes have no descriptor.
	evicted atomic.Int64

	mu  sync.Mutex
	lru list.List // of *node; the front goes first
}

// spareDescriptors are left to the rest of the process: sockets, memory.
const spareDescriptors = 256

func (d *descriptors) init(soft int) error {
	limit, err := raiseFileLimit()
	d.hard = max(int64(limit)-spareDescriptors, int64(limit)/2)
	d.soft = min(soft, int(d.hard/2))
	return err
}

// raiseFileLimit sets RLIMIT_NOFILE as high as it goes and returns it.
func raiseFileLimit() (uint64, error) {
	const ceiling = 1 << 20 // the kernel's default for fs.nr_open
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, err
	}
	if l.Cur >= ceiling {
		return l.Cur, nil
	}
	for _, want := range []unix.Rlimit{{Cur: ceiling, Max: max(ceiling, l.Max)}, {Cur: l.Max, Max: l.Max}} {
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &want) == nil {
			return want.Cur, nil
		}
	}
	return l.Cur, nil
}

// reserve counts one descriptor of e that is about to be opened.
func (d *descriptors) reserve(e *export) error {
	if d.live.Add(1) > d.hard {
		d.live.Add(-1)
		return unix.ENFILE
	}
	for {
		n := e.fds.Load()
		if n == 0 {
			d.live.Add(-1)
			return unix.ESTALE
		}
		if e.fds.CompareAndSwap(n, n+1) {
			return nil
		}
	}
}

// release undoes reserve, after the descriptor was closed.
func (d *descriptors) release(e *export) {
	d.live.Add(-1)
	if e.fds.Add(-1) == 0 {
		close(e.closed)
	}
}

// close closes a descriptor of e that was reserved.
func (d *descriptors) close(e *export, fd int) {
	unix.Close(fd)
	d.release(e)
}

// open opens a descriptor of e and counts it.
func (d *descriptors) open(e *export, open func() (int, error)) (int, error) {
	if err := d.reserve(e); err != nil {
		return -1, err
	}
	fd, err := open()
	if err != nil {
		d.release(e)
		return -1, err
	}
	return fd, nil
}

// allOpen says that no node is without its descriptor, nor about to be.
func (d *descriptors) allOpen() bool {
	return d.evicted.Load() == 0 && d.live.Load()+spareDescriptors < int64(d.soft)
}

// enlist makes n, whose descriptor was just opened, a candidate for eviction.
func (d *descriptors) enlist(n *node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n.elem == nil {
		n.elem = d.lru.PushBack(n)
	}
}

// enlistAgain is enlist for a node that may have left the table, or may have no
// descriptor: it is no candidate then.
func (d *descriptors) enlistAgain(n *node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.gone && n.fd >= 0 {
		d.enlist(n)
	}
}

func (d *descriptors) delist(n *node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n.elem != nil {
		d.lru.Remove(n.elem)
		n.elem = nil
	}
}

// oldest takes the next candidate off the list when there are too many.
func (d *descriptors) oldest() *node {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lru.Len() <= d.soft {
		return nil
	}
	n := d.lru.Remove(d.lru.Front()).(*node)
	n.elem = nil
	return n
}

// trim closes descriptors of nodes until few enough are open or a handful of
// candidates was in use. Call it without any lock.
func (h *host) trim() {
	for range 4 {
		n := h.fds.oldest()
		if n == nil {
			return
		}
		h.evict(n)
	}
}
