package export

import (
	"slices"

	"golang.org/x/sys/unix"
)

// location is where the guest has found a node.
type location struct {
	dir  *node
	name string
}

// maxDepth bounds how far above a node something open is looked for. What is deeper
// keeps its descriptor.
const maxDepth = 4096

// foundAt takes note of where n is. n becomes a candidate for eviction if it was none
// because its last location was no good.
func (h *host) foundAt(n, dir *node, name string) {
	if p := n.found.Load(); p != nil && p.dir == dir && p.name == name {
		return
	}
	n.found.Store(&location{dir, name})
	if !n.isRoot() {
		h.fds.enlistAgain(n)
	}
}

// reach opens what is at n's location with O_PATH, from the nearest directory above that
// is open. It may be another inode. n.mu is held, and so may be the mutexes of other
// nodes by other callers: none is waited for, but that of the export's root, whose
// holder never looks for another node. The error is EAGAIN if one was in the way.
func (h *host) reach(n *node) (int, error) {
	var names []string
	at, busy := n, false
	for {
		p := at.found.Load()
		if p == nil || len(names) == maxDepth {
			return -1, unix.ESTALE
		}
		names, at = append(names, p.name), p.dir
		if at.isRoot() {
			break
		}
		open, locked := at.pinIfOpen()
		if open {
			break
		}
		busy = busy || !locked
	}
	if at.isRoot() {
		if err := at.pin(h); err != nil {
			return -1, err
		}
	}
	defer at.unpin(h)
	slices.Reverse(names)
	fd, err := h.descend(at, names)
	if err != nil && busy {
		err = unix.EAGAIN
	}
	return fd, err
}

// descend opens what names lead to below dir, which is pinned. No link is followed.
func (h *host) descend(dir *node, names []string) (int, error) {
	from := dir.fd
	for i, name := range names {
		flags := unix.O_PATH | unix.O_NOFOLLOW
		if i < len(names)-1 {
			flags |= unix.O_DIRECTORY
		}
		fd, err := h.fds.open(dir.exp, func() (int, error) { return openat(from, name, flags, 0) })
		if from != dir.fd {
			h.fds.close(dir.exp, from)
		}
		if err != nil {
			return -1, err
		}
		from = fd
	}
	return from, nil
}

// pinIfOpen pins n if it is open and nobody is just using its mutex.
func (n *node) pinIfOpen() (open, locked bool) {
	if !n.mu.TryLock() {
		return false, false
	}
	defer n.mu.Unlock()
	if n.gone || n.fd < 0 {
		return false, true
	}
	n.pins++
	n.used = true
	return true, true
}

// hold opens and pins the node that is called name in dir, before that name goes. It
// returns nil if the guest does not know it, or if nothing needs to be held: a node
// that is open does not need its name.
func (s *Server) hold(dir *node, name string) *node {
	if s.host.fds.allOpen() {
		return nil
	}
	var st unix.Statx_t
	if statxName(dir.fd, name, &st) != nil {
		return nil
	}
	n := s.nodes.known(keyOf(dir.exp, &st))
	if n == nil || n == dir || n.pin(s.host) != nil {
		return nil
	}
	return n
}

// known is the node of an inode, if the guest knows it.
func (t *nodeTable) known(key nodeKey) *node {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byKey[key]
}
