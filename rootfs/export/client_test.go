package export

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// client is a guest without a kernel: it sends what it likes.
type client struct {
	t        testing.TB
	s        *Server
	unique   atomic.Uint64
	uid, gid uint32
	pid      uint32
}

// newServer makes a server that may leave no descriptors.
func newServer(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if n := s.host.fds.live.Load(); n != 0 {
			t.Errorf("%d descriptors are left", n)
		}
	})
	return s
}

// newClient starts a server with the given exports and initializes it.
func newClient(t testing.TB, o Options, exports map[string]string) *client {
	t.Helper()
	s := newServer(t, o)
	c := &client{t: t, s: s}
	for name, path := range exports {
		c.export(name, path, Policy{})
	}
	c.init()
	return c
}

func (c *client) init() {
	c.t.Helper()
	if _, errno := c.call(opInit, 0, u32(7), u32(38), u32(1<<17), ^uint32(0)); errno != 0 {
		c.t.Fatal("INIT:", errno)
	}
}

func (c *client) export(name, path string, p Policy) {
	c.t.Helper()
	f, err := os.OpenFile(path, unix.O_PATH, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	if err := c.s.AddExport(name, f, p); err != nil {
		c.t.Fatal(err)
	}
}

func u32(v int) uint32 { return uint32(v) }

// encode makes a request. Parts are uint32, uint64, []byte, or string, which
// gets a NUL at its end.
func (c *client) encode(op uint32, node uint64, parts ...any) []byte {
	b := make([]byte, inHeaderSize)
	for _, part := range parts {
		switch v := part.(type) {
		case uint32:
			b = binary.LittleEndian.AppendUint32(b, v)
		case uint64:
			b = binary.LittleEndian.AppendUint64(b, v)
		case []byte:
			b = append(b, v...)
		case string:
			b = append(append(b, v...), 0)
		default:
			panic(fmt.Sprintf("part of type %T", part))
		}
	}
	binary.LittleEndian.PutUint32(b[0:], uint32(len(b)))
	binary.LittleEndian.PutUint32(b[4:], op)
	binary.LittleEndian.PutUint64(b[8:], c.unique.Add(1))
	binary.LittleEndian.PutUint64(b[16:], node)
	binary.LittleEndian.PutUint32(b[24:], c.uid)
	binary.LittleEndian.PutUint32(b[28:], c.gid)
	binary.LittleEndian.PutUint32(b[32:], c.pid)
	return b
}

// call sends a request with plenty of room and returns the answer.
func (c *client) call(op uint32, node uint64, parts ...any) ([]byte, unix.Errno) {
	return c.send(c.encode(op, node, parts...), 1<<17)
}

// send sends raw bytes with room for a reply of the given length.
func (c *client) send(in []byte, room int) ([]byte, unix.Errno) {
	c.t.Helper()
	out := make([]byte, room)
	n := c.s.Handle(&Request{Readable: [][]byte{in}, Writable: [][]byte{out[:room/2], out[room/2:]}})
	if n == 0 {
		return nil, 0
	}
	if n < outHeaderSize || n > room || int(binary.LittleEndian.Uint32(out)) != n {
		c.t.Fatalf("reply of %d bytes in %d says %d", n, room, binary.LittleEndian.Uint32(out))
	}
	errno := unix.Errno(-int32(binary.LittleEndian.Uint32(out[4:])))
	if errno > 511 || errno != 0 && n != outHeaderSize {
		c.t.Fatalf("reply of %d bytes with error %d", n, errno)
	}
	return out[outHeaderSize:n], errno
}

// lookup walks path, one name after the other, from the root.
func (c *client) lookup(path ...string) uint64 {
	c.t.Helper()
	node := uint64(rootID)
	for _, name := range path {
		b, errno := c.call(opLookup, node, name)
		if errno != 0 {
			c.t.Fatalf("LOOKUP %v: %v", path, errno)
		}
		node = binary.LittleEndian.Uint64(b)
	}
	return node
}

// open opens a node and returns the handle.
func (c *client) open(node uint64, flags int) uint64 {
	c.t.Helper()
	fh, errno := c.tryOpen(node, flags)
	if errno != 0 {
		c.t.Fatal("OPEN:", errno)
	}
	return fh
}

func (c *client) tryOpen(node uint64, flags int) (uint64, unix.Errno) {
	op := uint32(opOpen)
	if flags&unix.O_DIRECTORY != 0 {
		op = opOpendir
	}
	b, errno := c.call(op, node, uint32(flags), uint32(0))
	if errno != 0 {
		return 0, errno
	}
	return binary.LittleEndian.Uint64(b), 0
}

// read reads n bytes at off.
func (c *client) read(node, fh, off uint64, n uint32) (string, unix.Errno) {
	b, errno := c.call(opRead, node, fh, off, n, uint32(0), uint64(0), uint32(0), uint32(0))
	return string(b), errno
}

// write writes data at off.
func (c *client) write(node, fh, off uint64, data string, flags uint32) unix.Errno {
	_, errno := c.call(opWrite, node, fh, off, u32(len(data)), flags, uint64(0), uint32(0), uint32(0), []byte(data))
	return errno
}

// want fails the test unless errno is one of those given.
func (c *client) want(what string, errno unix.Errno, wanted ...unix.Errno) {
	c.t.Helper()
	for _, w := range wanted {
		if errno == w {
			return
		}
	}
	c.t.Errorf("%s: %v, want %v", what, errno, wanted)
}

// tree lays files out below a new directory: name to content, "" for a
// directory if the name ends with a slash, a link if the content begins "-> ".
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	top := t.TempDir()
	for name, content := range files {
		p := filepath.Join(top, name)
		err := os.MkdirAll(filepath.Dir(p), 0o755)
		switch {
		case err != nil:
		case name[len(name)-1] == '/':
			err = os.MkdirAll(p, 0o755)
		case len(content) > 3 && content[:3] == "-> ":
			err = os.Symlink(content[3:], p)
		default:
			err = os.WriteFile(p, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return top
}

// snapshot lists everything below dir with its content and state, access times
// apart.
func snapshot(t testing.TB, dir string) string {
	t.Helper()
	s := ""
	err := filepath.Walk(dir, func(p string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		s += fmt.Sprintln(p, st.Ino, st.Mode, st.Nlink, st.Uid, st.Gid, st.Size, st.Mtim, st.Ctim)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
