package export

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// evict closes n's descriptor if nobody uses it and the inode can be found
// again by its file handle.
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
	if n.handle == nil && h.learnHandle(n) != nil {
		return // it keeps its descriptor for good
	}
	h.fds.close(n.exp, n.fd)
	n.fd = -1
}

// learnHandle finds n's file handle and proves that it can be opened. n.mu is
// held.
func (h *host) learnHandle(n *node) error {
	if !h.creds.canOpenHandles() {
		return unix.EPERM
	}
	fh, _, err := unix.NameToHandleAt(n.fd, "", unix.AT_EMPTY_PATH)
	if err != nil {
		return err
	}
	mount, err := h.mountOf(n, fh)
	if err != nil {
		return err
	}
	if mount < 0 {
		return unix.EOPNOTSUPP
	}
	n.handle = &fh
	return nil
}

// mountOf returns a descriptor on n's mount to open handles by, or -1 when
// that does not work there.
func (h *host) mountOf(n *node, fh unix.FileHandle) (int, error) {
	e := n.exp
	e.mountMu.Lock()
	defer e.mountMu.Unlock()
	if fd, ok := e.mounts[n.key.mnt]; ok {
		return fd, nil
	}
	if e.isGone() {
		return -1, nil
	}
	at := n
	if e.root.key.mnt == n.key.mnt {
		at = e.root // stays open for as long as the export
	}
	if !at.isDir() {
		return -1, nil // the next directory will do
	}
	fd, err := h.fds.open(e, func() (int, error) { return h.reopen(at.fd, unix.O_RDONLY|unix.O_DIRECTORY) })
	if err != nil {
		return -1, err
	}
	probe, err := unix.OpenByHandleAt(fd, fh, unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		h.fds.close(e, fd)
		e.mounts[n.key.mnt] = -1
		return -1, nil
	}
	unix.Close(probe)
	e.mounts[n.key.mnt] = fd
	return fd, nil
}

// closeMounts closes what mountOf has opened.
func (h *host) closeMounts(e *export) {
	e.mountMu.Lock()
	defer e.mountMu.Unlock()
	for id, fd := range e.mounts {
		if fd >= 0 {
			h.fds.close(e, fd)
		}
		delete(e.mounts, id)
	}
}

// revive opens an evicted node's inode again. n.mu is held.
func (h *host) revive(n *node) error {
	n.exp.mountMu.Lock()
	mount, ok := n.exp.mounts[n.key.mnt]
	n.exp.mountMu.Unlock()
	if !ok || n.handle == nil {
		return unix.ESTALE
	}
	fd, err := h.fds.open(n.exp, func() (int, error) {
		return unix.OpenByHandleAt(mount, *n.handle, unix.O_PATH|unix.O_CLOEXEC)
	})
	if err != nil {
		return err
	}
	n.fd = fd
	h.fds.enlist(n)
	return nil
}

// restore gives an evicted node the descriptor fd if that is the same inode;
// the number alone may have been given to another file. It reports whether the
// node stands for fd's inode, and takes fd over then.
func (h *host) restore(n *node, fd int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone {
		return false
	}
	if n.fd >= 0 {
		h.fds.close(n.exp, fd)
		return true
	}
	fh, _, err := unix.NameToHandleAt(fd, "", unix.AT_EMPTY_PATH)
	if err != nil || fh.Type() != n.handle.Type() || !bytes.Equal(fh.Bytes(), n.handle.Bytes()) {
		return false
	}
	n.fd = fd
	h.fds.enlist(n)
	return true
}
