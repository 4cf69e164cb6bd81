package export

import (
	"golang.org/x/sys/unix"
)

// makeEntry runs make as the caller and replies with the new entry.
func (s *Server) makeEntry(c *call, dir *node, name string, make func() error) error {
	if !dir.isDir() {
		return unix.ENOTDIR
	}
	if err := s.host.creds.as(c.uid, c.gid, make); err != nil {
		return err
	}
	return s.replyEntry(c, dir, name)
}

// symlink serves SYMLINK. The target is data to the host.
func (s *Server) symlink(c *call, dir *node) error {
	in := c.args()
	name, err := in.name()
	if err != nil {
		return err
	}
	target, err := in.str()
	if err != nil {
		return err
	}
	return s.makeEntry(c, dir, name, func() error { return unix.Symlinkat(target, dir.fd, name) })
}

// mknod serves MKNOD (struct fuse_mknod_in).
func (s *Server) mknod(c *call, dir *node) error {
	in := c.args()
	mode, rdev, umask := in.u32(), in.u32(), in.u32()
	in.skip(4)
	name, err := in.name()
	if err != nil {
		return err
	}
	if err := dir.exp.policy.allowNode(mode, rdev); err != nil {
		return err
	}
	mode = s.masked(dir, mode, umask)
	dev := unix.Mkdev(rdev>>8&0xfff, rdev&0xff|rdev>>12&^0xff)
	return s.makeEntry(c, dir, name, func() error { return unix.Mknodat(dir.fd, name, mode, int(dev)) })
}

// allowNode checks the type of a node to be made.
func (p *Policy) allowNode(mode, rdev uint32) error {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK:
		return nil
	case unix.S_IFCHR:
		if rdev == 0 || p.Devices {
			return nil
		}
		return unix.EPERM
	case unix.S_IFBLK:
		if p.Devices {
			return nil
		}
		return unix.EPERM
	default:
		return unix.EINVAL
	}
}

// mkdir serves MKDIR (struct fuse_mkdir_in).
func (s *Server) mkdir(c *call, dir *node) error {
	in := c.args()
	mode, umask := in.u32(), in.u32()
	name, err := in.name()
	if err != nil {
		return err
	}
	mode = s.masked(dir, mode, umask)
	return s.makeEntry(c, dir, name, func() error { return unix.Mkdirat(dir.fd, name, mode&0o7777) })
}

// link serves LINK. Both names are in the same export, or a file that the
// guest may only read could be changed through another name.
func (s *Server) link(c *call, dir *node) error {
	in := c.args()
	id := in.u64()
	name, err := in.name()
	if err != nil {
		return err
	}
	old, err := s.sibling(dir, id)
	if err != nil {
		return err
	}
	defer old.unpin(s.host)
	if !dir.isDir() {
		return unix.ENOTDIR
	}
	err = unix.Linkat(s.host.proc, s.host.link(old.fd), dir.fd, name, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return err
	}
	return s.replyEntry(c, dir, name)
}

// sibling returns a second node of a request, pinned, which must be of the
// same export as the first.
func (s *Server) sibling(n *node, id uint64) (*node, error) {
	other := s.nodes.get(id)
	if other == nil && id == rootID {
		return nil, unix.EXDEV
	}
	if other == nil {
		return nil, unix.ESTALE
	}
	if other.exp != n.exp {
		return nil, unix.EXDEV
	}
	return other, other.pin(s.host)
}

// createIn is struct fuse_create_in.
type createIn struct {
	flags, mode, umask, openFlags uint32
}

func parseCreate(in *decoder) createIn {
	return createIn{flags: in.u32(), mode: in.u32(), umask: in.u32(), openFlags: in.u32()}
}

// create serves CREATE: open, and make the file if there is none.
func (s *Server) create(c *call, dir *node) error {
	in := c.args()
	a := parseCreate(&in)
	name, err := in.name()
	if err != nil {
		return err
	}
	if !dir.isDir() {
		return unix.ENOTDIR
	}
	// O_EXCL, because what is there already may be anything and must not be
	// opened before its type is known.
	flags := openFlags(a.flags)&^unix.O_TRUNC | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW
	err = s.createAt(c, dir, name, flags, s.masked(dir, a.mode, a.umask))
	if err == unix.EEXIST && a.flags&unix.O_EXCL == 0 {
		return s.createExisting(c, dir, name, &a)
	}
	return err
}

// tmpfile serves TMPFILE. The guest sends a name that means nothing.
func (s *Server) tmpfile(c *call, dir *node) error {
	in := c.args()
	a := parseCreate(&in)
	if !dir.isDir() {
		return unix.ENOTDIR
	}
	flags := openFlags(a.flags)&^unix.O_TRUNC | unix.O_TMPFILE
	if a.flags&unix.O_EXCL != 0 {
		flags |= unix.O_EXCL
	}
	return s.createAt(c, dir, ".", flags, s.masked(dir, a.mode, a.umask))
}

// createAt makes a file that did not exist and replies with entry and handle.
func (s *Server) createAt(c *call, dir *node, name string, flags int, mode uint32) error {
	fd, err := s.host.fds.open(dir.exp, func() (fd int, err error) {
		err = s.host.creds.as(c.uid, c.gid, func() error {
			fd, err = openat(dir.fd, name, flags, mode&0o7777)
			return err
		})
		return fd, err
	})
	if err != nil {
		return err
	}
	var st unix.Statx_t
	n, err := s.adoptOpen(dir.exp, fd, &st)
	if err != nil {
		s.host.fds.close(dir.exp, fd)
		return err
	}
	if flags&unix.O_TMPFILE != unix.O_TMPFILE {
		s.host.foundAt(n, dir, name)
	}
	return s.replyCreated(c, dir, n, fd, &st)
}

// adoptOpen is adopt for the file that is open as fd, which stays the caller's;
// it reads the attributes.
func (s *Server) adoptOpen(e *export, fd int, st *unix.Statx_t) (*node, error) {
	if err := statxFD(fd, st); err != nil {
		return nil, err
	}
	path, err := s.host.fds.open(e, func() (int, error) { return s.host.reopen(fd, unix.O_PATH) })
	if err != nil {
		return nil, err
	}
	return s.adopt(e, path, st)
}

// createExisting opens what CREATE found in its place.
func (s *Server) createExisting(c *call, dir *node, name string, a *createIn) error {
	var st unix.Statx_t
	n, err := s.find(dir, name, &st)
	if err != nil {
		return err
	}
	fd, err := s.openExisting(n, a.flags, a.openFlags)
	if err != nil {
		s.forgetNode(n.id, 1)
		return err
	}
	if err := statxFD(fd, &st); err != nil { // O_TRUNC may have changed it
		s.host.fds.close(n.exp, fd)
		s.forgetNode(n.id, 1)
		return err
	}
	return s.replyCreated(c, dir, n, fd, &st)
}

func (s *Server) openExisting(n *node, flags, kill uint32) (int, error) {
	if err := n.pin(s.host); err != nil {
		return -1, err
	}
	defer n.unpin(s.host)
	return s.openNode(n, flags, kill)
}

// replyCreated replies with entry and handle; it takes fd over. On error the
// lookup of n is taken back.
func (s *Server) replyCreated(c *call, dir, n *node, fd int, st *unix.Statx_t) error {
	id, err := s.addHandle(n, fd)
	if err != nil {
		s.forgetNode(n.id, 1)
		return err
	}
	s.putEntry(&c.out, dir, n, st)
	putOpenOut(&c.out, id, s.openReplyFlags(n, fd))
	return nil
}
