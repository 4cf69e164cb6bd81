package export

import "golang.org/x/sys/unix"

// settableFlags are the inode flags (FS_*_FL of linux/fs.h) that a guest may
// change: how a file is stored and written. Not among them are those that
// would keep the host from removing a file (immutable, append-only), charge
// others for it (project inheritance), or change how names compare.
const settableFlags = 0x00000001 | // FS_SECRM_FL
	0x00000002 | // FS_UNRM_FL
	0x00000004 | // FS_COMPR_FL
	0x00000008 | // FS_SYNC_FL
	0x00000040 | // FS_NODUMP_FL
	0x00000080 | // FS_NOATIME_FL
	0x00000400 | // FS_NOCOMP_FL
	0x00008000 | // FS_NOTAIL_FL
	0x00010000 | // FS_DIRSYNC_FL
	0x00020000 | // FS_TOPDIR_FL
	0x00800000 // FS_NOCOW_FL

// ioctlIn is struct fuse_ioctl_in.
type ioctlIn struct {
	id           uint64
	cmd          uint32
	size, result uint32 // of what follows, and of what is to be returned
}

func parseIoctl(in *decoder) ioctlIn {
	a := ioctlIn{id: in.u64()}
	in.skip(4)
	a.cmd = in.u32()
	in.skip(8) // arg
	a.size, a.result = in.u32(), in.u32()
	return a
}

// getXattr is FS_IOC_FSGETXATTR, which the guest's kernel sends before it sets
// flags; fsxattrSize is the size of its struct fsxattr in bytes.
const (
	getXattr    = 0x801c581f
	fsxattrSize = 28
)

// ioctl serves IOCTL: the flags of an inode can be read and, within limits,
// set. The guest's kernel passes on every other ioctl that a program tries.
func (s *Server) ioctl(c *call, n *node) error {
	in := c.args()
	a := parseIoctl(&in)
	if a.cmd != unix.FS_IOC_GETFLAGS && a.cmd != unix.FS_IOC_SETFLAGS && a.cmd != getXattr {
		return unix.ENOTTY
	}
	h, err := s.handleOf(a.id, n)
	if err != nil {
		return err
	}
	defer s.put(h)
	flags, err := unix.IoctlGetUint32(h.fd, unix.FS_IOC_GETFLAGS)
	if err != nil {
		return err
	}
	switch {
	case a.cmd == unix.FS_IOC_GETFLAGS:
		return c.replyIoctl(&a, flags, 4)
	case a.cmd == getXattr:
		return c.replyIoctl(&a, extendedFlags(flags), fsxattrSize)
	case a.size < 4:
		return unix.EINVAL
	}
	if err := setFlags(h, flags, in.u32()); err != nil {
		return err
	}
	return c.replyIoctl(&a, 0, 0)
}

// setFlags changes the flags of h's file from old to flags.
func setFlags(h *handle, old, flags uint32) error {
	if h.node.exp.policy.ReadOnly {
		return unix.EROFS
	}
	if (old^flags)&^settableFlags != 0 {
		return unix.EPERM
	}
	return unix.IoctlSetPointerInt(h.fd, unix.FS_IOC_SETFLAGS, int(int32(flags)))
}

// extendedFlags are those of flags that struct fsxattr has, too (FS_XFLAG_*,
// the common ones). The rest of it, such as the project that the host counts
// the file to, is not the guest's business.
func extendedFlags(flags uint32) uint32 {
	var x uint32
	for _, f := range []struct{ flag, extended uint32 }{
		{0x00000008, 0x20},   // SYNC
		{0x00000010, 0x08},   // IMMUTABLE
		{0x00000020, 0x10},   // APPEND
		{0x00000040, 0x80},   // NODUMP
		{0x00000080, 0x40},   // NOATIME
		{0x02000000, 0x8000}, // DAX
		{0x20000000, 0x200},  // PROJINHERIT
	} {
		if flags&f.flag != 0 {
			x |= f.extended
		}
	}
	return x
}

// replyIoctl appends struct fuse_ioctl_out and size bytes, of which flags are
// the first four and the others zero.
func (c *call) replyIoctl(a *ioctlIn, flags uint32, size int) error {
	if int(a.result) < size || c.room < ioctlOutSize+size {
		return unix.EINVAL
	}
	c.out.zero(ioctlOutSize)
	if size > 0 {
		c.out.u32(flags)
		c.out.zero(size - 4)
	}
	return nil
}
