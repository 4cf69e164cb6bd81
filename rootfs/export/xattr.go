package export

import (
	"strings"

	"golang.org/x/sys/unix"
)

// allowedXattr says which extended attributes exist for the guest: its own
// (user.*), file capabilities and POSIX ACLs. Everything else tells the host's
// kernel or its security modules what to do (trusted.*, security.*).
func allowedXattr(name string) bool {
	return strings.HasPrefix(name, "user.") || name == "security.capability" || isACL(name)
}

// withXattrs runs f with a descriptor that extended attributes can be reached
// by. Only regular files and directories have any that are allowed.
func (s *Server) withXattrs(n *node, f func(fd int) error) error {
	if !n.isRegular() && !n.isDir() {
		return unix.EOPNOTSUPP
	}
	fd, err := s.openFD(n, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer s.host.fds.close(n.exp, fd)
	return f(fd)
}

// xattrName takes the name of an attribute.
func (d *decoder) xattrName() (string, error) {
	name, err := d.str()
	if err != nil {
		return "", err
	}
	if len(name) > maxName {
		return "", unix.ERANGE
	}
	if !allowedXattr(name) {
		return "", unix.EOPNOTSUPP
	}
	return name, nil
}

// setxattr serves SETXATTR (struct fuse_setxattr_in, the short one).
func (s *Server) setxattr(c *call, n *node) error {
	in := c.args()
	length, flags := in.u32(), in.u32()
	name, err := in.xattrName()
	if err != nil {
		return err
	}
	if length > maxXattr {
		return unix.E2BIG
	}
	value, err := in.bytes(length)
	if err != nil {
		return err
	}
	return s.withXattrs(n, func(fd int) error { return unix.Fsetxattr(fd, name, value, int(flags)) })
}

// removexattr serves REMOVEXATTR.
func (s *Server) removexattr(c *call, n *node) error {
	in := c.args()
	name, err := in.xattrName()
	if err != nil {
		return err
	}
	return s.withXattrs(n, func(fd int) error { return unix.Fremovexattr(fd, name) })
}

// getxattr serves GETXATTR (struct fuse_getxattr_in): the value, or with size
// 0 its length.
func (s *Server) getxattr(c *call, n *node) error {
	in := c.args()
	length := in.u32()
	in.skip(4)
	name, err := in.xattrName()
	if err != nil {
		return err
	}
	bp := listings.Get().(*[]byte)
	defer listings.Put(bp)
	return noACL(name, s.withXattrs(n, func(fd int) error {
		got, err := unix.Fgetxattr(fd, name, (*bp)[:maxXattr])
		if err != nil {
			return err
		}
		return c.replyXattr((*bp)[:got], length)
	}))
}

// listxattr serves LISTXATTR.
func (s *Server) listxattr(c *call, n *node) error {
	in := c.args()
	length := in.u32()
	if !n.isRegular() && !n.isDir() {
		return c.replyXattr(nil, length)
	}
	bp := listings.Get().(*[]byte)
	defer listings.Put(bp)
	return s.withXattrs(n, func(fd int) error {
		got, err := unix.Flistxattr(fd, (*bp)[:maxXattr])
		if err != nil {
			return err
		}
		return c.replyXattr(visibleXattrs((*bp)[:got]), length)
	})
}

// visibleXattrs filters a list of names that each end with NUL, in place.
func visibleXattrs(list []byte) []byte {
	kept := list[:0]
	for len(list) > 0 {
		end := strings.IndexByte(string(list), 0) + 1
		if end == 0 {
			end = len(list)
		}
		if allowedXattr(strings.TrimSuffix(string(list[:end]), "\x00")) {
			kept = append(kept, list[:end]...)
		}
		list = list[end:]
	}
	return kept
}

// replyXattr replies with v, or with its length when the guest has room for
// nothing (struct fuse_getxattr_out).
func (c *call) replyXattr(v []byte, length uint32) error {
	if length == 0 {
		if c.room < 8 {
			return errMalformed
		}
		c.out.u32(uint32(len(v)))
		c.out.u32(0)
		return nil
	}
	if len(v) > int(length) {
		return unix.ERANGE
	}
	if len(v) > c.room {
		return errMalformed
	}
	c.out.b = append(c.out.b, v...)
	return nil
}
