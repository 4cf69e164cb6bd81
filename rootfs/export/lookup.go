package export

import (
	"slices"

	"golang.org/x/sys/unix"
)

// lookup serves LOOKUP.
func (s *Server) lookup(c *call, dir *node) error {
	in := c.args()
	name, err := in.name()
	if err != nil {
		return err
	}
	err = s.replyEntry(c, dir, name)
	if err == unix.ENOENT && dir.exp.policy.Cache == CacheAlways {
		putNoEntry(&c.out, CacheAlways.lifetime())
		return nil
	}
	return err
}

// replyEntry looks name up in dir, counts that, and replies with the entry.
func (s *Server) replyEntry(c *call, dir *node, name string) error {
	var st unix.Statx_t
	n, err := s.find(dir, name, &st)
	if err != nil {
		return err
	}
	s.putEntry(&c.out, dir, n, &st)
	return nil
}

// find returns the node of a child of dir with its attributes, and counts the
// lookup.
func (s *Server) find(dir *node, name string, st *unix.Statx_t) (*node, error) {
	if !dir.isDir() {
		return nil, unix.ENOTDIR
	}
	// What the guest knows already, which is the common case, needs no
	// descriptor.
	if err := statxName(dir.fd, name, st); err != nil {
		return nil, err
	}
	if n := s.nodes.hit(keyOf(dir.exp, st)); n != nil {
		s.host.foundAt(n, dir, name)
		return n, nil
	}
	fd, err := s.host.fds.open(dir.exp, func() (int, error) {
		return openat(dir.fd, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	})
	if err != nil {
		return nil, err
	}
	if err := checkCrossing(dir, fd, st); err != nil {
		s.host.fds.close(dir.exp, fd)
		return nil, err
	}
	n, err := s.adopt(dir.exp, fd, st)
	if err == nil {
		s.host.foundAt(n, dir, name)
	}
	return n, err
}

// kernelFS are file systems that are interfaces to the host's kernel and its
// processes (statfs(2)), this one's memory among them.
var kernelFS = []int64{
	unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.CGROUP_SUPER_MAGIC,
	unix.CGROUP2_SUPER_MAGIC, unix.BPF_FS_MAGIC, unix.DEVPTS_SUPER_MAGIC, unix.EFIVARFS_MAGIC, unix.PSTOREFS_MAGIC, unix.SELINUX_MAGIC,
	unix.BINFMTFS_MAGIC, unix.NSFS_MAGIC, configfsMagic,
}

// configfsMagic is CONFIGFS_MAGIC of linux/magic.h.
const configfsMagic = 0x62656570

// checkCrossing reads the attributes of fd, a child of dir, and refuses to go
// into a kernel's file system that is mounted in dir. An export of a whole host
// has them.
func checkCrossing(dir *node, fd int, st *unix.Statx_t) error {
	if err := statxFD(fd, st); err != nil {
		return err
	}
	if unix.Mkdev(st.Dev_major, st.Dev_minor) == dir.key.dev {
		return nil
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return err
	}
	if slices.Contains(kernelFS, fs.Type) {
		return unix.EACCES
	}
	return nil
}

// adopt returns the node of fd's inode, whose attributes are st, a new one if
// needed, and counts a lookup. It takes fd over, an O_PATH descriptor that is
// counted.
func (s *Server) adopt(e *export, fd int, st *unix.Statx_t) (*node, error) {
	n, err := s.nodes.adopt(s.host, e, fd, st)
	if err != nil {
		s.host.fds.close(e, fd)
		return nil, err
	}
	s.host.trim()
	return n, nil
}

// adopt finds or makes the node; see Server.adopt. On error fd is not taken.
func (t *nodeTable) adopt(h *host, e *export, fd int, st *unix.Statx_t) (*node, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.isGone() {
		return nil, unix.ESTALE
	}
	key := keyOf(e, st)
	if n := t.byKey[key]; n != nil && h.restore(n, fd, st) {
		n.lookups.Add(1)
		return n, nil
	}
	if len(t.byID) >= t.most {
		return nil, unix.ENFILE
	}
	// A node that is there but stands for another inode had its number given
	// away: it stays known by its id only, and every use of it is ESTALE.
	n := h.newNode(e, fd, st)
	n.lookups.Store(1)
	t.insertLocked(n)
	h.fds.enlist(n)
	return n, nil
}

// readlink serves READLINK.
func (s *Server) readlink(c *call, n *node) error {
	if n.mode != unix.S_IFLNK {
		return unix.EINVAL
	}
	var buf [4096]byte
	got, err := unix.Readlinkat(n.fd, "", buf[:])
	if err != nil {
		return err
	}
	if got > c.room {
		return errMalformed
	}
	c.out.b = append(c.out.b, buf[:got]...)
	return nil
}
