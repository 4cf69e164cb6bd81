package export

import (
	"bytes"
	"errors"

	"golang.org/x/sys/unix"
)

// evict closes n's descriptor if nobody uses it and the inode can be found again at
// its place. Where it can't, as after the host has removed it, n keeps the descriptor
// until the guest finds it somewhere again.
func (h *host) evict(n *node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone || n.fd < 0 {
		return
	}
	if n.pins > 0 || n.used {
		n.used = false
		h.fds.enlist(n)
		return
	}
	fd, err := h.reach(n)
	if errors.Is(err, unix.EAGAIN) {
		h.fds.enlist(n)
	}
	if err != nil {
		return
	}
	defer h.fds.close(n.exp, fd)
	var st unix.Statx_t
	// n.fd holds the inode: its number is not another's.
	if statxFD(fd, &st) != nil || keyOf(n.exp, &st) != n.key {
		return
	}
	if n.handle == nil {
		if fh, _, err := unix.NameToHandleAt(fd, "", unix.AT_EMPTY_PATH); err == nil {
			n.handle = &fh
		}
	}
	h.fds.close(n.exp, n.fd)
	n.fd = -1
	h.fds.evicted.Add(1)
}

// revive opens an evicted node's inode again. n.mu is held. It fails with ESTALE if
// the inode is no more where it was: the guest's kernel looks its name up again then.
func (h *host) revive(n *node) error {
	fd, err := h.reach(n)
	if errors.Is(err, unix.ENFILE) || errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENOMEM) {
		return err
	}
	if err != nil {
		return unix.ESTALE
	}
	var st unix.Statx_t
	if statxFD(fd, &st) != nil || keyOf(n.exp, &st) != n.key || !n.is(fd, &st) {
		h.fds.close(n.exp, fd)
		return unix.ESTALE
	}
	h.adoptEvicted(n, fd)
	return nil
}

// restore gives an evicted node the descriptor fd if that is the same inode;
// the number alone may have been given to another file. It reports whether the
// node stands for fd's inode, and takes fd over then.
func (h *host) restore(n *node, fd int, st *unix.Statx_t) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone {
		return false
	}
	if n.fd >= 0 {
		h.fds.close(n.exp, fd)
		return true
	}
	if !n.is(fd, st) {
		return false
	}
	h.adoptEvicted(n, fd)
	return true
}

// adoptEvicted makes fd the descriptor of n, which has none. n.mu is held.
func (h *host) adoptEvicted(n *node, fd int) {
	n.fd = fd
	h.fds.evicted.Add(-1)
	h.fds.enlist(n)
}

// is tells whether fd, with n's number, is n's inode: by the file handle, in which the
// file system counts the uses of a number. Where there are no handles (overlayfs) the
// number has to do; a file that has got it meanwhile is in the same place of the same
// export. n is evicted, and n.mu held.
func (n *node) is(fd int, st *unix.Statx_t) bool {
	if n.mode != st.Mode&unix.S_IFMT {
		return false
	}
	if n.handle == nil {
		return true
	}
	fh, _, err := unix.NameToHandleAt(fd, "", unix.AT_EMPTY_PATH)
	return err == nil && fh.Type() == n.handle.Type() && bytes.Equal(fh.Bytes(), n.handle.Bytes())
}
