package export

import (
	"golang.org/x/sys/unix"
)

// The share's root directory, which exists only here.

// rootStat makes up the root's attributes.
func (s *Server) rootStat() unix.Statx_t {
	count, changed := s.exports.stat()
	t := unix.StatxTimestamp{Sec: changed.Unix(), Nsec: uint32(changed.Nanosecond())}
	return unix.Statx_t{
		Mask: unix.STATX_BASIC_STATS,
		Mode: unix.S_IFDIR | 0o555, Nlink: uint32(count) + 2, Blksize: 4096,
		Atime: t, Mtime: t, Ctime: t, Btime: t,
	}
}

// getattrRoot serves GETATTR of the root.
func (s *Server) getattrRoot(c *call) error {
	st := s.rootStat()
	c.out.u64(0) // never stale
	c.out.zero(8)
	putAttr(&c.out, rootIno, &st, 0)
	return nil
}

// statxRoot serves STATX of the root.
func (s *Server) statxRoot(c *call) error {
	st := s.rootStat()
	putStatxOut(&c.out, rootIno, &st, 0)
	return nil
}

// lookupRoot serves LOOKUP in the root.
func (s *Server) lookupRoot(c *call) error {
	in := c.args()
	name, err := in.name()
	if err != nil {
		return err
	}
	e := s.exports.find(name)
	if e == nil {
		return unix.ENOENT
	}
	return s.replyExport(&c.out, e)
}

// replyExport appends the entry of an export and counts the lookup.
func (s *Server) replyExport(o *encoder, e *export) error {
	if err := e.root.pin(s.host); err != nil {
		return err
	}
	defer e.root.unpin(s.host)
	var st unix.Statx_t
	if err := statxFD(e.root.fd, &st); err != nil {
		return err
	}
	e.root.lookups.Add(1)
	s.putEntry(o, nil, e.root, &st)
	return nil
}

// opendirRoot serves OPENDIR of the root. Its handle is 0: there is no state.
func (s *Server) opendirRoot(c *call) error {
	putOpenOut(&c.out, 0, 0)
	return nil
}

// readdirRoot serves READDIR of the root.
func (s *Server) readdirRoot(c *call) error { return s.listRoot(c, false) }

// readdirplusRoot serves READDIRPLUS of the root.
func (s *Server) readdirplusRoot(c *call) error { return s.listRoot(c, true) }

// rootEntry is where an export stands in the listing: after "." and "..".
const rootEntry = 2

// listRoot lists from the guest's position on. An export's position is its
// order, which is stable whatever comes and goes.
func (s *Server) listRoot(c *call, plus bool) error {
	a := c.readArgs()
	l := listing{out: &c.out, limit: a.size, plus: plus}
	for i, dots := range []string{".", ".."} {
		if uint64(i) < a.off {
			continue
		}
		d := dirent{off: int64(i) + 1, kind: unix.DT_DIR, name: []byte(dots)}
		if !l.fits(d.name) {
			return nil
		}
		if plus {
			l.out.zero(64)
			l.out.zero(64)
		}
		l.add(rootIno, &d)
	}
	for _, e := range s.exports.all() {
		if e.order+rootEntry <= a.off {
			continue
		}
		if !l.fits([]byte(e.name)) {
			return nil
		}
		s.addExport(&l, e)
	}
	return nil
}

func (s *Server) addExport(l *listing, e *export) {
	d := dirent{off: int64(e.order + rootEntry), kind: uint8(e.root.mode >> 12), name: []byte(e.name)}
	if l.plus && s.replyExport(l.out, e) != nil {
		l.out.zero(64)
		l.out.zero(64)
	}
	l.add(s.inodes.of(e.root.key.dev, e.root.key.ino), &d)
}

// accessRoot serves ACCESS of the root.
func (s *Server) accessRoot(c *call) error {
	in := c.args()
	if in.u32()&unix.W_OK != 0 {
		return unix.EROFS
	}
	return nil
}

// statfsRoot serves STATFS of the root: a file system without any space.
func (s *Server) statfsRoot(c *call) error {
	putStatfs(&c.out, &unix.Statfs_t{Bsize: 4096, Frsize: 4096, Namelen: maxName})
	return nil
}

// syncfsRoot serves SYNCFS of the whole share.
func (s *Server) syncfsRoot(*call) error {
	var first error
	for _, e := range s.exports.all() {
		if e.policy.ReadOnly || e.root.pin(s.host) != nil {
			continue
		}
		if err := s.syncNode(e.root); err != nil && first == nil {
			first = err
		}
		e.root.unpin(s.host)
	}
	return first
}

// nothingRoot serves what the root has no state for.
func (s *Server) nothingRoot(*call) error { return nil }

// getxattrRoot serves GETXATTR on the root, which has no ACL either.
func (s *Server) getxattrRoot(c *call) error {
	in := c.args()
	in.skip(8)
	name, err := in.str()
	if err != nil {
		return err
	}
	return noACL(name, unix.EOPNOTSUPP)
}

// listxattrRoot serves LISTXATTR on the root.
func (s *Server) listxattrRoot(*call) error { return unix.EOPNOTSUPP }

// ioctlRoot serves IOCTL on the root.
func (s *Server) ioctlRoot(*call) error { return unix.ENOTTY }
