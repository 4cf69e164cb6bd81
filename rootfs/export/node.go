package export

import (
	"container/list"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// nodeKey tells inodes apart. The export is part of it because it decides what
// may be done: one directory can be exported twice, once read-only.
type nodeKey struct {
	exp *export
	mnt uint64
	dev uint64
	ino uint64
}

// node is an inode that the guest knows. Its type never changes: while it has a
// descriptor that stands for the inode, and what is found without is checked.
type node struct {
	id  uint64
	key nodeKey
	exp *export
	// mode holds the bits of S_IFMT.
	mode uint16
	// lookups is how often the guest was told of the node and has not
	// forgotten it. It rises under nodeTable.mu held for reading, and falls
	// under it held for writing.
	lookups atomic.Uint64

	elem *list.Element // guarded by descriptors.mu

	// found is where the guest has last found it: nil if nowhere, or if that is
	// known to be past.
	found atomic.Pointer[location]

	mu   sync.Mutex
	fd   int  // O_PATH, -1 while evicted; constant while pins > 0
	pins int  // users of fd
	gone bool // out of the table: close fd with the last pin
	used bool // pinned since the last look of trim
	// handle tells the inode from a later one with its number; set at the first
	// eviction, where the file system has handles.
	handle *unix.FileHandle
	// seen is the state of the file when it was last opened.
	seen fileState

	locks fileLocks
}

// newNode makes a node of fd, which it takes over and which is counted.
func (h *host) newNode(e *export, fd int, st *unix.Statx_t) *node {
	n := &node{key: keyOf(e, st), exp: e, mode: st.Mode & unix.S_IFMT, fd: fd}
	return n
}

func keyOf(e *export, st *unix.Statx_t) nodeKey {
	return nodeKey{exp: e, mnt: st.Mnt_id, dev: unix.Mkdev(st.Dev_major, st.Dev_minor), ino: st.Ino}
}

func (n *node) isDir() bool     { return n.mode == unix.S_IFDIR }
func (n *node) isRegular() bool { return n.mode == unix.S_IFREG }
func (n *node) isRoot() bool    { return n == n.exp.root }

// sameMount says that n is on the mount that dir is on.
func (n *node) sameMount(dir *node) bool {
	return dir != nil && dir.key.mnt == n.key.mnt && dir.key.dev == n.key.dev
}

// pin makes n.fd valid until unpin. It fails with ESTALE when the node is out
// of the table or its inode is no longer found. No node is locked, but another if n is
// the root of its export.
func (n *node) pin(h *host) error {
	revived, err := n.pinLocked(h)
	if revived {
		h.trim()
	}
	return err
}

// pinLocked is pin, and tells whether n has got a descriptor anew.
func (n *node) pinLocked(h *host) (revived bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone {
		return false, unix.ESTALE
	}
	if n.fd < 0 {
		if err := h.revive(n); err != nil {
			return false, err
		}
		revived = true
	}
	n.pins++
	n.used = true
	return revived, nil
}

func (n *node) unpin(h *host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pins--
	n.closeIfUnused(h)
}

func (n *node) closeIfUnused(h *host) {
	if n.gone && n.pins == 0 && n.fd >= 0 {
		h.fds.close(n.exp, n.fd)
		n.fd = -1
	}
}

// drop is called when n has left the table.
func (n *node) drop(h *host) {
	h.fds.delist(n)
	n.locks.closeAll(h, n.exp)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.gone = true
	n.found.Store(nil) // or it would keep a whole branch in memory
	if n.fd < 0 {
		h.fds.evicted.Add(-1)
	}
	n.closeIfUnused(h)
}

// nodeTable finds nodes by id and by inode.
type nodeTable struct {
	mu    sync.RWMutex
	byID  map[uint64]*node
	byKey map[nodeKey]*node
	next  uint64 // ids are never used again, so the generation is always 0
	most  int    // nodes of the guest's, roots apart
}

func (t *nodeTable) init(most int) {
	t.byID, t.byKey = map[uint64]*node{}, map[nodeKey]*node{}
	t.next, t.most = rootID, most
}

// insert adds n under a new id.
func (t *nodeTable) insert(n *node) *node {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.insertLocked(n)
	return n
}

func (t *nodeTable) insertLocked(n *node) {
	t.next++
	n.id = t.next
	t.byID[n.id], t.byKey[n.key] = n, n
}

// makeRoot makes n the root of the share.
func (t *nodeTable) makeRoot(n *node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byID, n.id)
	n.id = rootID
	t.byID[rootID] = n
}

// get returns the node with the given id, not pinned, or nil.
func (t *nodeTable) get(id uint64) *node {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byID[id]
}

// hit looks the inode up and counts the lookup. It finds only a node that
// holds the inode open at this moment: then the number can't have been given
// to another file since it was read.
func (t *nodeTable) hit(key nodeKey) *node {
	t.mu.RLock()
	defer t.mu.RUnlock()
	n := t.byKey[key]
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fd < 0 || n.gone {
		return nil
	}
	n.used = true
	n.lookups.Add(1)
	return n
}

// again counts a lookup of n, unless it has left the table.
func (t *nodeTable) again(n *node) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.byID[n.id] != n {
		return false
	}
	n.lookups.Add(1)
	return true
}

// forget takes count lookups off the node with the given id. A guest that
// forgets more than it was told of has forgotten the node.
func (t *nodeTable) forget(id, count uint64) *node {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byID[id]
	if n == nil {
		return nil
	}
	left := n.lookups.Load()
	left -= min(left, count)
	n.lookups.Store(left)
	if left > 0 || n.isRoot() {
		return nil
	}
	t.removeLocked(n)
	return n
}

func (t *nodeTable) removeLocked(n *node) {
	delete(t.byID, n.id)
	if t.byKey[n.key] == n {
		delete(t.byKey, n.key)
	}
}

// take removes every node that match chooses.
func (t *nodeTable) take(match func(*node) bool) []*node {
	t.mu.Lock()
	defer t.mu.Unlock()
	var taken []*node
	for _, n := range t.byID {
		if match(n) {
			t.removeLocked(n)
			taken = append(taken, n)
		}
	}
	return taken
}
