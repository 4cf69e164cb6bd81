package export

import (
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// inodeNumber is the number of st's inode in the guest.
func (s *Server) inodeNumber(st *unix.Statx_t) uint64 {
	return s.inodes.of(unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino)
}

// putAttr appends struct fuse_attr with the inode number ino.
func putAttr(o *encoder, ino uint64, st *unix.Statx_t, flags uint32) {
	o.u64(ino)
	o.u64(st.Size)
	o.u64(st.Blocks)
	for _, t := range []*unix.StatxTimestamp{&st.Atime, &st.Mtime, &st.Ctime} {
		o.u64(uint64(t.Sec))
	}
	for _, t := range []*unix.StatxTimestamp{&st.Atime, &st.Mtime, &st.Ctime} {
		o.u32(t.Nsec)
	}
	o.u32(uint32(st.Mode))
	o.u32(st.Nlink)
	o.u32(st.Uid)
	o.u32(st.Gid)
	o.u32(encodeDevice(st.Rdev_major, st.Rdev_minor))
	o.u32(st.Blksize)
	o.u32(flags)
}

// encodeDevice packs a device number as the kernel's new_encode_dev does.
func encodeDevice(major, minor uint32) uint32 {
	return minor&0xff | major<<8 | minor&^0xff<<12
}

// lifetimes are how long the guest may believe a name, and attributes.
type lifetimes struct {
	entry, attr time.Duration
}

// lifetimesOf follows the policy of the export, but for two things: an export
// may be removed at any time, and the set-id bits that a write clears on the
// host (FUSE_HANDLE_KILLPRIV_V2) stay in the guest's cache if there are any.
func lifetimesOf(n *node, st *unix.Statx_t) lifetimes {
	d := n.exp.policy.Cache.lifetime()
	l := lifetimes{entry: d, attr: d}
	if n.isRoot() {
		l.entry = 0
	}
	if n.isRegular() && st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 && !n.exp.policy.ReadOnly {
		l.attr = 0
	}
	return l
}

func seconds(d time.Duration) uint64     { return uint64(d / time.Second) }
func nanoseconds(d time.Duration) uint32 { return uint32(d % time.Second) }

// putEntry appends struct fuse_entry_out of n in dir, which is nil for the
// share's root.
func (s *Server) putEntry(o *encoder, dir, n *node, st *unix.Statx_t) {
	l := lifetimesOf(n, st)
	o.u64(n.id)
	o.u64(0) // generation
	o.u64(seconds(l.entry))
	o.u64(seconds(l.attr))
	o.u32(nanoseconds(l.entry))
	o.u32(nanoseconds(l.attr))
	var flags uint32
	if s.opts.Submounts && !n.exp.policy.OneDevice && n.isDir() && !n.sameMount(dir) {
		flags = attrSubmount
	}
	putAttr(o, s.inodeNumber(st), st, flags)
}

// putNoEntry appends struct fuse_entry_out of a name that is not there, for
// the guest to remember.
func putNoEntry(o *encoder, valid time.Duration) {
	o.zero(16) // node id and generation
	o.u64(seconds(valid))
	o.zero(entryOutSize - 24 - attrSize)
	o.zero(attrSize - 64)
	o.zero(64)
}

// putAttrOut appends struct fuse_attr_out.
func (s *Server) putAttrOut(o *encoder, n *node, st *unix.Statx_t) {
	l := lifetimesOf(n, st)
	o.u64(seconds(l.attr))
	o.u32(nanoseconds(l.attr))
	o.u32(0)
	putAttr(o, s.inodeNumber(st), st, 0)
}

// getattr serves GETATTR.
func (s *Server) getattr(c *call, n *node) error {
	var st unix.Statx_t
	if err := statxFD(n.fd, &st); err != nil {
		return err
	}
	s.putAttrOut(&c.out, n, &st)
	return nil
}

// statx serves STATX, GETATTR with the time of birth.
func (s *Server) statx(c *call, n *node) error {
	var st unix.Statx_t
	if err := unix.Statx(n.fd, "", unix.AT_EMPTY_PATH, statxMask|unix.STATX_BTIME, &st); err != nil {
		return err
	}
	putStatxOut(&c.out, s.inodeNumber(&st), &st, lifetimesOf(n, &st).attr)
	return nil
}

// putStatxOut appends struct fuse_statx_out. The guest supplies the device
// number itself.
func putStatxOut(o *encoder, ino uint64, st *unix.Statx_t, valid time.Duration) {
	o.u64(seconds(valid))
	o.u32(nanoseconds(valid))
	o.zero(4 + 16)
	o.u32(st.Mask & (unix.STATX_BASIC_STATS | unix.STATX_BTIME))
	o.u32(st.Blksize)
	o.u64(0) // attributes
	o.u32(st.Nlink)
	o.u32(st.Uid)
	o.u32(st.Gid)
	o.u16(st.Mode)
	o.u16(0)
	o.u64(ino)
	o.u64(st.Size)
	o.u64(st.Blocks)
	o.u64(0) // attributes_mask
	for _, t := range []*unix.StatxTimestamp{&st.Atime, &st.Btime, &st.Ctime, &st.Mtime} {
		o.u64(uint64(t.Sec))
		o.u32(t.Nsec)
		o.u32(0)
	}
	o.u32(st.Rdev_major)
	o.u32(st.Rdev_minor)
	o.zero(8)
	o.zero(56)
	o.zero(56)
}

// setattrIn is struct fuse_setattr_in.
type setattrIn struct {
	valid               uint32
	fh, size            uint64
	atime, mtime        uint64
	atimeNsec, mtimeNsc uint32
	mode, uid, gid      uint32
}

func parseSetattr(in decoder) setattrIn {
	var a setattrIn
	a.valid = in.u32()
	in.skip(4)
	a.fh, a.size = in.u64(), in.u64()
	in.skip(8) // lock_owner
	a.atime, a.mtime = in.u64(), in.u64()
	in.skip(8) // ctime
	a.atimeNsec, a.mtimeNsc = in.u32(), in.u32()
	in.skip(4) // ctimensec
	a.mode = in.u32()
	in.skip(4)
	a.uid, a.gid = in.u32(), in.u32()
	return a
}

// setattr serves SETATTR. The owner comes before the mode, because a change of
// owner clears bits that a mode sent along may want to be set.
func (s *Server) setattr(c *call, n *node) error {
	a := parseSetattr(c.args())
	for _, step := range []func(*node, *setattrIn) error{s.setOwner, s.setMode, s.setSize, s.setTimes} {
		if err := step(n, &a); err != nil {
			return err
		}
	}
	return s.getattr(c, n)
}

func (s *Server) setOwner(n *node, a *setattrIn) error {
	if a.valid&(setUID|setGID) == 0 {
		return nil
	}
	uid, gid := -1, -1
	if a.valid&setUID != 0 {
		uid = int(a.uid)
	}
	if a.valid&setGID != 0 {
		gid = int(a.gid)
	}
	return unix.Fchownat(n.fd, "", uid, gid, unix.AT_EMPTY_PATH)
}

func (s *Server) setMode(n *node, a *setattrIn) error {
	if a.valid&setMode == 0 {
		return nil
	}
	if n.mode == unix.S_IFLNK {
		return unix.EOPNOTSUPP
	}
	return unix.Fchmodat(s.host.proc, s.host.link(n.fd), a.mode&0o7777, 0)
}

func (s *Server) setSize(n *node, a *setattrIn) error {
	if a.valid&setSize == 0 {
		return nil
	}
	if !n.isRegular() || a.size > math.MaxInt64 {
		return unix.EINVAL
	}
	return s.withWritable(n, a, func(fd int) error {
		truncate := func() error { return unix.Ftruncate(fd, int64(a.size)) }
		if a.valid&setKillPriv != 0 {
			return s.killPriv(fd, truncate)
		}
		return truncate()
	})
}

// withWritable runs f with the guest's open file if it names one, or else with
// a descriptor of its own.
func (s *Server) withWritable(n *node, a *setattrIn, f func(fd int) error) error {
	if a.valid&setFH != 0 {
		h, err := s.handleOf(a.fh, n)
		if err != nil {
			return err
		}
		defer s.put(h)
		return f(h.fd)
	}
	fd, err := s.host.fds.open(n.exp, func() (int, error) { return s.host.reopen(n.fd, unix.O_WRONLY) })
	if err != nil {
		return err
	}
	defer s.host.fds.close(n.exp, fd)
	return f(fd)
}

func (s *Server) setTimes(n *node, a *setattrIn) error {
	if a.valid&(setAtime|setMtime|setAtimeNow|setMtimeNow) == 0 {
		return nil
	}
	return unix.UtimesNanoAt(n.fd, "", []unix.Timespec{
		timeToSet(a.valid, setAtime, setAtimeNow, a.atime, a.atimeNsec),
		timeToSet(a.valid, setMtime, setMtimeNow, a.mtime, a.mtimeNsc),
	}, unix.AT_EMPTY_PATH)
}

func timeToSet(valid, given, now uint32, sec uint64, nsec uint32) unix.Timespec {
	switch {
	case valid&now != 0:
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	case valid&given != 0:
		return unix.Timespec{Sec: int64(sec), Nsec: int64(nsec)}
	default:
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	}
}

// access serves ACCESS. Permissions are the guest's own affair; what it can't
// know is that the export is read-only, or the mount on the host.
func (s *Server) access(c *call, n *node) error {
	in := c.args()
	if in.u32()&unix.W_OK != 0 && (n.exp.policy.ReadOnly || mountedReadOnly(n.fd)) {
		return unix.EROFS
	}
	return nil
}

func mountedReadOnly(fd int) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(fd, &st) == nil && st.Flags&unix.ST_RDONLY != 0
}
