package export

import (
	"bytes"
	"encoding/binary"
	"sync"

	"golang.org/x/sys/unix"
)

// maxListing is the longest reply to READDIR and READDIRPLUS in bytes.
const maxListing = 64 << 10

var listings = sync.Pool{New: func() any {
	b := make([]byte, maxListing)
	return &b
}}

// dirent is an entry as getdents64(2) gives it.
type dirent struct {
	ino  uint64
	off  int64 // where the next entry is
	kind uint8
	name []byte
}

// nextDirent takes the first entry off b.
func nextDirent(b []byte) (d dirent, rest []byte, ok bool) {
	const header = 19
	if len(b) < header {
		return d, nil, false
	}
	reclen := int(binary.NativeEndian.Uint16(b[16:]))
	if reclen < header || reclen > len(b) {
		return d, nil, false
	}
	d.ino = binary.NativeEndian.Uint64(b)
	d.off = int64(binary.NativeEndian.Uint64(b[8:]))
	d.kind = b[18]
	d.name = b[header:reclen]
	if i := bytes.IndexByte(d.name, 0); i >= 0 {
		d.name = d.name[:i]
	}
	return d, b[reclen:], true
}

// listing builds the reply of READDIR or READDIRPLUS within a limit.
type listing struct {
	out   *encoder
	limit int
	plus  bool
}

// fits says whether one more entry can be added.
func (l *listing) fits(name []byte) bool {
	n := direntSize + len(name)
	if l.plus {
		n += entryOutSize
	}
	return len(l.out.b)+(n+7)&^7 <= l.limit
}

// add appends struct fuse_dirent.
func (l *listing) add(ino uint64, d *dirent) {
	l.out.u64(ino)
	l.out.u64(uint64(d.off))
	l.out.u32(uint32(len(d.name)))
	l.out.u32(uint32(d.kind))
	l.out.b = append(l.out.b, d.name...)
	l.out.align8()
}

// readIn is struct fuse_read_in as far as directories need it.
type readIn struct {
	id, off uint64
	size    int
}

func (c *call) readArgs() readIn {
	in := c.args()
	r := readIn{id: in.u64(), off: in.u64()}
	r.size = min(int(in.u32()), max(c.room, 0), maxListing)
	return r
}

// readdir serves READDIR.
func (s *Server) readdir(c *call, n *node) error { return s.list(c, n, false) }

// readdirplus serves READDIRPLUS: every entry with its LOOKUP.
func (s *Server) readdirplus(c *call, n *node) error { return s.list(c, n, true) }

func (s *Server) list(c *call, n *node, plus bool) error {
	a := c.readArgs()
	h, err := s.handleOf(a.id, n)
	if err != nil {
		return err
	}
	defer s.put(h)
	if !n.isDir() {
		return unix.ENOTDIR
	}
	h.dirMu.Lock()
	defer h.dirMu.Unlock()
	bp := listings.Get().(*[]byte)
	defer listings.Put(bp)
	b, err := h.entries(*bp, &a, plus)
	if err != nil {
		return err
	}
	l := listing{out: &c.out, limit: a.size, plus: plus}
	for len(b) > 0 {
		d, rest, ok := nextDirent(b)
		if !ok {
			return unix.EIO
		}
		if !l.fits(d.name) {
			break
		}
		s.addDirent(&l, n, &d)
		b = rest
	}
	if len(b) > 0 && len(c.out.b) == 0 {
		return unix.EINVAL // not even one fits
	}
	return nil
}

// entries reads from the guest's position on about as much as will fit in the
// reply. h.dirMu is held.
func (h *handle) entries(b []byte, a *readIn, plus bool) ([]byte, error) {
	if int64(a.off) != h.pos {
		if _, err := unix.Seek(h.fd, int64(a.off), 0); err != nil {
			return nil, err
		}
		h.pos = int64(a.off)
	}
	room := a.size
	if plus {
		room /= 4 // a reply's entry is about that much longer
	}
	n, err := unix.Getdents(h.fd, b[:max(room, 512)])
	if err != nil {
		return nil, err
	}
	for rest := b[:n]; len(rest) > 0; {
		d, more, ok := nextDirent(rest)
		if !ok {
			return nil, unix.EIO
		}
		h.pos, rest = d.off, more
	}
	return b[:n], nil
}

func (s *Server) addDirent(l *listing, dir *node, d *dirent) {
	ino := s.inodes.of(dir.key.dev, d.ino)
	dots := string(d.name) == "." || string(d.name) == ".."
	if dir.isRoot() && string(d.name) == ".." {
		ino = s.aboveRoot(dir)
	}
	if l.plus {
		s.addEntry(l, dir, d, dots)
	}
	l.add(ino, d)
}

// aboveRoot is the number of what the guest finds above an export: what is
// there on the host is not its business.
func (s *Server) aboveRoot(dir *node) uint64 {
	if dir.id == rootID {
		return s.inodes.of(dir.key.dev, dir.key.ino)
	}
	return rootIno
}

// addEntry appends struct fuse_entry_out. An entry that can't be looked up any
// more, or must not be, has node id 0 and is taken as a name only.
func (s *Server) addEntry(l *listing, dir *node, d *dirent, dots bool) {
	if !dots {
		var st unix.Statx_t
		if n, err := s.find(dir, string(d.name), &st); err == nil {
			s.putEntry(l.out, dir, n, &st)
			return
		}
	}
	l.out.zero(64)
	l.out.zero(64)
}
