package export

import (
	"time"

	"golang.org/x/sys/unix"
)

// openFlags keeps what the guest's open(2) flags mean for a file that exists.
// O_APPEND comes with every WRITE, O_DIRECT is between the guest and its page
// cache, and O_NONBLOCK means nothing to a regular file.
func openFlags(flags uint32) int {
	return int(flags) & (unix.O_ACCMODE | unix.O_TRUNC | unix.O_SYNC | unix.O_DSYNC | unix.O_NOATIME)
}

// open serves OPEN (struct fuse_open_in).
func (s *Server) open(c *call, n *node) error {
	in := c.args()
	fd, err := s.openNode(n, in.u32(), in.u32())
	if err != nil {
		return err
	}
	return s.replyOpen(c, n, fd, s.openReplyFlags(n, fd))
}

// opendir serves OPENDIR.
func (s *Server) opendir(c *call, n *node) error {
	if !n.isDir() {
		return unix.ENOTDIR
	}
	fd, err := s.openFD(n, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	var flags uint32
	if n.exp.policy.Cache == CacheAlways {
		flags = fopenCacheDir | fopenKeepCache
	}
	return s.replyOpen(c, n, fd, flags)
}

func (s *Server) replyOpen(c *call, n *node, fd int, flags uint32) error {
	id, err := s.addHandle(n, fd)
	if err != nil {
		return err
	}
	putOpenOut(&c.out, id, flags)
	return nil
}

// openNode opens a regular file of the export as its policy allows. kill holds
// FUSE_OPEN_KILL_SUIDGID when the caller's O_TRUNC clears set-id bits.
func (s *Server) openNode(n *node, guest, kill uint32) (int, error) {
	if n.isDir() {
		return -1, unix.EISDIR
	}
	if !n.isRegular() {
		return -1, unix.ENXIO // for the guest's kernel to open
	}
	flags := openFlags(guest)
	changes := flags&unix.O_ACCMODE != unix.O_RDONLY || flags&unix.O_TRUNC != 0
	if changes && n.exp.policy.ReadOnly {
		return -1, unix.EROFS
	}
	if flags&unix.O_TRUNC == 0 || kill&openKillPriv == 0 {
		return s.openFD(n, flags)
	}
	var fd int
	err := s.killPriv(n.fd, func() (err error) {
		fd, err = s.openFD(n, flags)
		return err
	})
	return fd, err
}

// openFD opens n, a regular file or directory, and counts the descriptor.
// Reading a read-only export leaves no trace on the host, if the host lets us.
func (s *Server) openFD(n *node, flags int) (int, error) {
	if n.exp.policy.ReadOnly {
		flags |= unix.O_NOATIME
	}
	return s.host.fds.open(n.exp, func() (int, error) {
		fd, err := s.host.reopen(n.fd, flags)
		if err == unix.EPERM && flags&unix.O_NOATIME != 0 {
			fd, err = s.host.reopen(n.fd, flags&^unix.O_NOATIME)
		}
		return fd, err
	})
}

// putOpenOut appends struct fuse_open_out.
func putOpenOut(o *encoder, id uint64, flags uint32) {
	o.u64(id)
	o.u32(flags)
	o.u32(0)
}

// openReplyFlags tells the guest what to do with its page cache, and whether
// it has to FLUSH.
func (s *Server) openReplyFlags(n *node, fd int) uint32 {
	flags := uint32(fopenParallel)
	if !n.exp.lateErrors && !s.opts.Locks {
		flags |= fopenNoFlush
	}
	switch n.exp.policy.Cache {
	case CacheAlways:
		flags |= fopenKeepCache
	case CacheNever:
		if s.directMaps.Load() {
			flags |= fopenDirectIO
		}
	case CacheAuto:
		if n.unchanged(fd) {
			flags |= fopenKeepCache
		}
	}
	return flags
}

// fileState changes whenever a file's content does.
type fileState struct {
	size         uint64
	mtime, ctime unix.StatxTimestamp
}

// settled is how old a time stamp must be to be sure that a later change gets
// a later one: kernels stamp with the tick of their clock.
const settled = 100 * time.Millisecond

// unchanged says that the file is as it was when it was last opened, so that
// the guest's pages of it are good; and takes note of how it is now.
func (n *node) unchanged(fd int) bool {
	var st unix.Statx_t
	if err := statxFD(fd, &st); err != nil {
		return false
	}
	now := fileState{st.Size, st.Mtime, st.Ctime}
	changed := time.Unix(st.Ctime.Sec, int64(st.Ctime.Nsec))
	n.mu.Lock()
	defer n.mu.Unlock()
	before := n.seen
	n.seen = fileState{}
	if time.Since(changed) > settled {
		n.seen = now
	}
	return before == now
}
