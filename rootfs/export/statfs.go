package export

import "golang.org/x/sys/unix"

// statfs serves STATFS.
func (s *Server) statfs(c *call, n *node) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(n.fd, &st); err != nil {
		return err
	}
	putStatfs(&c.out, &st)
	return nil
}

// putStatfs appends struct fuse_kstatfs.
func putStatfs(o *encoder, st *unix.Statfs_t) {
	o.u64(st.Blocks)
	o.u64(st.Bfree)
	o.u64(st.Bavail)
	o.u64(st.Files)
	o.u64(st.Ffree)
	o.u32(uint32(st.Bsize))
	o.u32(uint32(st.Namelen))
	o.u32(uint32(st.Frsize))
	o.zero(28)
}

// syncfs serves SYNCFS.
func (s *Server) syncfs(_ *call, n *node) error {
	if n.exp.policy.ReadOnly {
		return nil
	}
	return s.syncNode(n)
}

// syncNode writes the file system of n, which is pinned, to its disk.
func (s *Server) syncNode(n *node) error {
	if !n.isDir() && !n.isRegular() {
		return nil
	}
	fd, err := s.openFD(n, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer s.host.fds.close(n.exp, fd)
	return unix.Syncfs(fd)
}
