package export

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// handle is a file or directory that the guest has open.
type handle struct {
	id   uint64
	node *node // pinned
	fd   int
	// refs counts the users, one of them the table; the last one closes fd.
	refs atomic.Int32
	// flocked says that flock(2) was used.
	flocked atomic.Bool

	dirMu sync.Mutex // serialises readers of a directory
	pos   int64      // where fd stands, as a cookie of the host's file system
}

// handleTable finds open files by the number the guest has for them. Numbers
// are never used again.
type handleTable struct {
	mu   sync.RWMutex
	byID map[uint64]*handle
	next uint64
}

func (t *handleTable) init() { t.byID = map[uint64]*handle{} }

// addHandle makes a handle of fd, which it takes over, and returns its number.
func (s *Server) addHandle(n *node, fd int) (uint64, error) {
	if err := n.pin(s.host); err != nil {
		s.host.fds.close(n.exp, fd)
		return 0, err
	}
	h := &handle{node: n, fd: fd}
	h.refs.Store(1)
	if !s.handles.add(h) {
		s.put(h)
		return 0, unix.ESTALE
	}
	return h.id, nil
}

// add fails when the export has been removed.
func (t *handleTable) add(h *handle) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h.node.exp.isGone() {
		return false
	}
	t.next++
	h.id = t.next
	t.byID[h.id] = h
	return true
}

// handleOf returns the open file that the guest names, which must be one of n.
// The caller puts it back.
func (s *Server) handleOf(id uint64, n *node) (*handle, error) {
	s.handles.mu.RLock()
	defer s.handles.mu.RUnlock()
	h := s.handles.byID[id]
	if h == nil || h.node != n {
		return nil, unix.EBADF
	}
	h.refs.Add(1)
	return h, nil
}

// put gives a handle back.
func (s *Server) put(h *handle) {
	if h.refs.Add(-1) > 0 {
		return
	}
	s.host.fds.close(h.node.exp, h.fd)
	if h.flocked.Load() {
		h.node.locks.wake()
	}
	h.node.unpin(s.host)
}

// take removes every handle that match chooses; the caller puts them.
func (t *handleTable) take(match func(*handle) bool) []*handle {
	t.mu.Lock()
	defer t.mu.Unlock()
	var taken []*handle
	for id, h := range t.byID {
		if match(h) {
			delete(t.byID, id)
			taken = append(taken, h)
		}
	}
	return taken
}

// release serves RELEASE and RELEASEDIR (struct fuse_release_in).
func (s *Server) release(c *call, n *node) error {
	in := c.args()
	h, err := s.handleOf(in.u64(), n)
	if err != nil {
		return err
	}
	in.skip(4)
	flags, owner := in.u32(), in.u64()
	if flags&releaseFlush != 0 {
		n.locks.closeOwner(s.host, n.exp, owner)
	}
	n.locks.closeHandle(s.host, n.exp, h.id)
	s.handles.mu.Lock()
	_, open := s.handles.byID[h.id]
	delete(s.handles.byID, h.id)
	s.handles.mu.Unlock()
	s.put(h)
	if open {
		s.put(h) // the table's
	}
	return nil
}
