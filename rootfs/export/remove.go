package export

import "golang.org/x/sys/unix"

// unlink serves UNLINK.
func (s *Server) unlink(c *call, dir *node) error { return s.remove(c, dir, 0) }

// rmdir serves RMDIR.
func (s *Server) rmdir(c *call, dir *node) error { return s.remove(c, dir, unix.AT_REMOVEDIR) }

func (s *Server) remove(c *call, dir *node, flags int) error {
	in := c.args()
	name, err := in.name()
	if err != nil {
		return err
	}
	if !dir.isDir() {
		return unix.ENOTDIR
	}
	victim := s.hold(dir, name)
	if victim != nil {
		defer victim.unpin(s.host)
	}
	err = unix.Unlinkat(dir.fd, name, flags)
	if err == nil && victim != nil {
		victim.found.Store(nil)
	}
	return err
}

// rename serves RENAME (struct fuse_rename_in).
func (s *Server) rename(c *call, dir *node) error {
	in := c.args()
	id := in.u64()
	return s.move(&in, dir, id, 0)
}

// rename2 serves RENAME2 (struct fuse_rename2_in). RENAME_WHITEOUT makes the
// one device node that mknod may make, too.
func (s *Server) rename2(c *call, dir *node) error {
	in := c.args()
	id, flags := in.u64(), in.u32()
	in.skip(4)
	if flags&^(renameNoReplace|renameExchange|renameWhiteout) != 0 {
		return unix.EINVAL
	}
	return s.move(&in, dir, id, flags)
}

func (s *Server) move(in *decoder, dir *node, id uint64, flags uint32) error {
	from, err := in.name()
	if err != nil {
		return err
	}
	to, err := in.name()
	if err != nil {
		return err
	}
	target, err := s.sibling(dir, id)
	if err != nil {
		return err
	}
	defer target.unpin(s.host)
	if !dir.isDir() || !target.isDir() {
		return unix.ENOTDIR
	}
	moved, victim := s.hold(dir, from), s.hold(target, to)
	for _, n := range []*node{moved, victim} {
		if n != nil {
			defer n.unpin(s.host)
		}
	}
	if err := unix.Renameat2(dir.fd, from, target.fd, to, uint(flags)); err != nil {
		return err
	}
	if moved != nil {
		s.host.foundAt(moved, target, to)
	}
	switch {
	case victim == nil || victim == moved:
	case flags&renameExchange != 0:
		s.host.foundAt(victim, dir, from)
	default:
		victim.found.Store(nil)
	}
	return nil
}
