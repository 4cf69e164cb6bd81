package export

import (
	"math"

	"golang.org/x/sys/unix"
)

// read serves READ (struct fuse_read_in), straight into the guest's memory.
func (s *Server) read(c *call, n *node) error {
	in := c.args()
	id, off, length := in.u64(), in.u64(), in.u32()
	h, err := s.handleOf(id, n)
	if err != nil {
		return err
	}
	defer s.put(h)
	if off > math.MaxInt64 {
		return unix.EINVAL
	}
	want := min(int(length), c.room)
	if want <= 0 {
		return nil
	}
	c.direct, err = readv(h.fd, c.req.Writable, outHeaderSize, want, int64(off))
	return err
}

// write serves WRITE (struct fuse_write_in), straight from the guest's memory.
func (s *Server) write(c *call, n *node) error {
	in := c.args()
	id, off, length, flags := in.u64(), in.u64(), in.u32(), in.u32()
	in.skip(8)
	fileFlags := in.u32()
	if int(length) > int(c.length)-inHeaderSize-writeInSize {
		s.refuse("WRITE is shorter than it says")
		return errMalformed
	}
	h, err := s.handleOf(id, n)
	if err != nil {
		return err
	}
	defer s.put(h)
	if off > math.MaxInt64 {
		return unix.EINVAL
	}
	done := 0
	transfer := func() (err error) {
		done, err = writev(h.fd, c.req.Readable, inHeaderSize+writeInSize, int(length), int64(off), writeMode(flags, fileFlags))
		return err
	}
	if flags&writeKillPriv != 0 {
		err = s.killPriv(h.fd, transfer)
	} else {
		err = transfer()
	}
	if err != nil {
		return err
	}
	c.out.u32(uint32(done))
	c.out.u32(0)
	return nil
}

// writeMode translates the flags of the guest's open file for pwritev2(2).
// The host's descriptor has no O_APPEND: pages that the guest writes back from
// a mapping go where they belong, whichever open file they come through.
func writeMode(flags, fileFlags uint32) int {
	mode := 0
	if fileFlags&unix.O_APPEND != 0 && flags&writeCache == 0 {
		mode |= unix.RWF_APPEND
	}
	switch {
	case fileFlags&unix.O_SYNC == unix.O_SYNC:
		mode |= unix.RWF_SYNC
	case fileFlags&unix.O_DSYNC != 0:
		mode |= unix.RWF_DSYNC
	}
	return mode
}

// killPriv runs change, a write or truncate of fd's file by a caller without
// CAP_FSETID: if the file has a set-id bit, the host's kernel clears it as it
// would for that caller.
func (s *Server) killPriv(fd int, change func() error) error {
	var st unix.Statx_t
	if err := statxFD(fd, &st); err != nil {
		return err
	}
	if st.Mode&(unix.S_ISUID|unix.S_ISGID) == 0 {
		return change()
	}
	return s.host.creds.withoutFsetid(change)
}

// killPrivOf is killPriv for a request without a flag that says what its caller may:
// the guest's kernel leaves set-id bits to us in those, too. Only root is taken to have
// CAP_FSETID, if we know that it is root: a kernel that maps ids (FUSE_ALLOW_IDMAP)
// names no user where none becomes an owner.
func (s *Server) killPrivOf(c *call, fd int, change func() error) error {
	if c.uid == 0 {
		return change()
	}
	return s.killPriv(fd, change)
}

// flush serves FLUSH (struct fuse_flush_in), sent at every close(2) of an open
// file. Closing a duplicate brings out the errors that the host's file system
// has kept for this moment.
func (s *Server) flush(c *call, n *node) error {
	in := c.args()
	id := in.u64()
	in.skip(8)
	owner := in.u64()
	h, err := s.handleOf(id, n)
	if err != nil {
		return err
	}
	defer s.put(h)
	n.locks.closeOwner(s.host, n.exp, owner)
	if !n.exp.lateErrors {
		return nil
	}
	fd, err := s.host.fds.open(n.exp, func() (int, error) {
		return unix.FcntlInt(uintptr(h.fd), unix.F_DUPFD_CLOEXEC, 0)
	})
	if err != nil {
		return err
	}
	err = unix.Close(fd)
	s.host.fds.release(n.exp)
	return err
}

// fsync serves FSYNC and FSYNCDIR (struct fuse_fsync_in).
func (s *Server) fsync(c *call, n *node) error {
	in := c.args()
	id, flags := in.u64(), in.u32()
	h, err := s.handleOf(id, n)
	if err != nil {
		return err
	}
	defer s.put(h)
	if flags&fsyncDataOnly != 0 {
		return unix.Fdatasync(h.fd)
	}
	return unix.Fsync(h.fd)
}

// lseek serves LSEEK, which the guest sends for holes and data only.
func (s *Server) lseek(c *call, n *node) error {
	in := c.args()
	id, off, whence := in.u64(), in.u64(), in.u32()
	if whence != unix.SEEK_DATA && whence != unix.SEEK_HOLE || !n.isRegular() {
		return unix.EINVAL
	}
	h, err := s.handleOf(id, n)
	if err != nil {
		return err
	}
	defer s.put(h)
	pos, err := unix.Seek(h.fd, int64(off), int(whence))
	if err != nil {
		return err
	}
	c.out.u64(uint64(pos))
	return nil
}

// fallocate serves FALLOCATE (struct fuse_fallocate_in) in every mode that the
// host's file system has.
func (s *Server) fallocate(c *call, n *node) error {
	in := c.args()
	id, off, length, mode := in.u64(), in.u64(), in.u64(), in.u32()
	h, err := s.handleOf(id, n)
	if err != nil {
		return err
	}
	defer s.put(h)
	if off > math.MaxInt64 || length > math.MaxInt64 {
		return unix.EFBIG
	}
	return s.killPrivOf(c, h.fd, func() error {
		for {
			if err := unix.Fallocate(h.fd, mode, int64(off), int64(length)); err != unix.EINTR {
				return err
			}
		}
	})
}

// maxCopy is what one COPY_FILE_RANGE copies at most, so that it holds a
// worker for a bounded time; the guest goes on from there.
const maxCopy = 64 << 20

// copyFileRange serves COPY_FILE_RANGE (struct fuse_copy_file_range_in). The
// files may be of two exports: both are open, with what that allows.
func (s *Server) copyFileRange(c *call, n *node) error {
	in := c.args()
	id, off := in.u64(), in.u64()
	outNode, outID, outOff := in.u64(), in.u64(), in.u64()
	length, flags := in.u64(), in.u64()
	from, err := s.handleOf(id, n)
	if err != nil {
		return err
	}
	defer s.put(from)
	to, err := s.handleOf(outID, s.nodes.get(outNode))
	if err != nil {
		return err
	}
	defer s.put(to)
	if flags != 0 || off > math.MaxInt64 || outOff > math.MaxInt64 {
		return unix.EINVAL
	}
	src, dst := int64(off), int64(outOff)
	var done int
	err = s.killPrivOf(c, to.fd, func() (err error) {
		done, err = unix.CopyFileRange(from.fd, &src, to.fd, &dst, int(min(length, maxCopy)), 0)
		return err
	})
	if err != nil {
		return err
	}
	c.out.u32(uint32(done))
	c.out.u32(0)
	return nil
}
