package export

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/rootfs/changes"
)

// What a hostile guest does to the protocol.

// rawClient has not sent INIT.
func rawClient(t *testing.T) *client {
	top := tree(t, map[string]string{"file": "file"})
	c := newClient(t, Options{}, map[string]string{"in": top})
	c.s.Reset()
	return c
}

func TestInitComesFirstAndOnce(t *testing.T) {
	c := rawClient(t)
	for op := range uint32(opEnd + 10) {
		if op == opInit {
			continue
		}
		if b, errno := c.call(op, rootID, make([]byte, 128)); errno == 0 && b != nil {
			t.Errorf("opcode %d was answered before INIT", op)
		}
	}
	c.init()
	_, errno := c.call(opInit, 0, u32(7), u32(38), uint32(0), uint32(0))
	c.want("second INIT", errno, errMalformed)
	_, errno = c.call(opDestroy, 0)
	c.want("DESTROY", errno, 0)
	_, errno = c.call(opGetattr, rootID, uint64(0), uint64(0))
	c.want("GETATTR after DESTROY", errno, errMalformed)
	c.init()
	c.lookup("in", "file")
}

func TestVersions(t *testing.T) {
	for _, v := range []struct {
		major, minor uint32
		errno        unix.Errno
		live         bool
	}{{7, 31, 0, true}, {7, 45, 0, true}, {7, 1 << 31, 0, true}, {7, 30, unix.EPROTO, false}, {7, 0, unix.EPROTO, false}, {6, 99, unix.EPROTO, false}, {0, 0, unix.EPROTO, false}, {8, 0, 0, false}, {1 << 31, 0, 0, false}} {
		c := rawClient(t)
		b, errno := c.call(opInit, 0, v.major, v.minor, uint32(0), uint32(0))
		c.want(fmt.Sprint("INIT ", v), errno, v.errno)
		if errno == 0 && (len(b) != initOutSize || binary.LittleEndian.Uint32(b) != protoMajor) {
			t.Errorf("INIT %v: %d bytes, major %d", v, len(b), binary.LittleEndian.Uint32(b))
		}
		if c.s.live.Load() != v.live {
			t.Errorf("INIT %v: live is %v", v, !v.live)
		}
	}
}

func TestRepliesHaveTheSizesOfTheStructures(t *testing.T) {
	top := tree(t, map[string]string{"file": "file"})
	c := newClient(t, Options{Locks: true}, map[string]string{"in": top})
	file, dir := c.lookup("in", "file"), c.lookup("in")
	fh := c.open(file, unix.O_RDWR)
	for what, r := range map[string]struct {
		op    uint32
		node  uint64
		parts []any
		size  int
	}{
		"LOOKUP":       {opLookup, dir, []any{"file"}, 128},
		"GETATTR":      {opGetattr, file, []any{uint64(0), uint64(0)}, 104},
		"GETATTR root": {opGetattr, rootID, []any{uint64(0), uint64(0)}, 104},
		"STATX":        {opStatx, file, []any{uint64(0), uint64(0), uint64(0)}, 288},
		"STATX root":   {opStatx, rootID, []any{uint64(0), uint64(0), uint64(0)}, 288},
		"STATFS":       {opStatfs, file, nil, 80},
		"STATFS root":  {opStatfs, rootID, nil, 80},
		"OPEN":         {opOpen, file, []any{uint64(0)}, 16},
		"OPENDIR":      {opOpendir, rootID, []any{uint64(0)}, 16},
		"CREATE":       {opCreate, dir, []any{u32(unix.O_RDWR), u32(0o600), uint64(0), "new"}, 144},
		"TMPFILE":      {opTmpfile, dir, []any{u32(unix.O_RDWR), u32(0o600), uint64(0), "/"}, 144},
		"WRITE":        {opWrite, file, []any{fh, uint64(0), u32(1), make([]byte, 20), []byte("x")}, 8},
		"LSEEK":        {opLseek, file, []any{fh, uint64(0), u32(unix.SEEK_DATA), uint32(0)}, 8},
		"GETLK":        {opGetlk, file, []any{fh, uint64(1), uint64(0), uint64(1), make([]byte, 16)}, 24},
		"GETXATTR":     {opListxattr, file, []any{uint64(0)}, 8},
	} {
		if b, errno := c.call(r.op, r.node, r.parts...); errno != 0 || len(b) != r.size {
			t.Errorf("%s: %d bytes and %v, want %d", what, len(b), errno, r.size)
		}
	}
}

func TestLengthMustMatchTheChain(t *testing.T) {
	c := rawClient(t)
	c.init()
	good := c.encode(opGetattr, rootID, uint64(0), uint64(0))
	for _, length := range []uint32{0, 1, 39, 40, 55, 57, 1 << 20, 1 << 31, ^uint32(0)} {
		bad := bytes.Clone(good)
		binary.LittleEndian.PutUint32(bad, length)
		_, errno := c.send(bad, 4096)
		c.want(fmt.Sprint("length ", length), errno, errMalformed)
	}
	for n := range inHeaderSize {
		if got := c.s.Handle(&Request{Readable: [][]byte{good[:n]}, Writable: [][]byte{make([]byte, 4096)}}); got != 0 {
			t.Errorf("header of %d bytes was answered", n)
		}
	}
	if c.s.Handle(&Request{}) != 0 {
		t.Error("nothing was answered")
	}
	long := c.encode(opGetattr, rootID, make([]byte, 4<<20))
	_, errno := c.send(long, 4096)
	c.want("4 MiB GETATTR", errno, errMalformed)
}

// TestShortBodies cuts every operation's fixed part.
func TestShortBodies(t *testing.T) {
	c := rawClient(t)
	c.init()
	node := c.lookup("in")
	for op := range operations {
		if op == opDestroy {
			continue
		}
		for n := range operations[op].in {
			if b, errno := c.call(uint32(op), node, make([]byte, n)); errno == 0 && b != nil && len(b) > 0 {
				t.Errorf("opcode %d with a body of %d bytes was served", op, n)
			}
		}
	}
}

func TestTooLittleRoomDoesNothing(t *testing.T) {
	top := tree(t, map[string]string{"file": "file"})
	c := newClient(t, Options{}, map[string]string{"in": top})
	dir := c.lookup("in")
	before := snapshot(t, top)
	made := map[string][]byte{
		"CREATE": c.encode(opCreate, dir, u32(unix.O_RDWR), u32(0o600), uint64(0), "new"),
		"MKDIR":  c.encode(opMkdir, dir, u32(0o755), uint32(0), "new"),
		"MKNOD":  c.encode(opMknod, dir, u32(unix.S_IFREG), uint32(0), uint64(0), "new"),
		"LINK":   c.encode(opLink, dir, c.lookup("in", "file"), "new"),
		"LOOKUP": c.encode(opLookup, dir, "file"),
	}
	for what, in := range made {
		for _, room := range []int{0, 1, 15, 16, 17, 100, outHeaderSize + entryOutSize - 1} {
			b, errno := c.send(in, room)
			if len(b) != 0 || (errno == 0) != (room < outHeaderSize) {
				t.Errorf("%s with room for %d: %d bytes and %v", what, room, len(b), errno)
			}
		}
	}
	if after := snapshot(t, top); after != before {
		t.Error("changed:", after)
	}
}

func TestUnknownOpcodesAndNodes(t *testing.T) {
	c := rawClient(t)
	c.init()
	for _, op := range []uint32{0, 7, 19, 37, 40, 41, 48, 49, opEnd, 4096, 1 << 20, ^uint32(0)} {
		_, errno := c.call(op, rootID, make([]byte, 200))
		c.want(fmt.Sprint("opcode ", op), errno, unix.ENOSYS)
	}
	for op := range operations {
		if o := &operations[op]; o.node == nil {
			continue
		}
		for _, node := range []uint64{0, 99, 1 << 63, ^uint64(0)} {
			_, errno := c.call(uint32(op), node, make([]byte, 200))
			c.want(fmt.Sprintf("opcode %d on node %d", op, node), errno, unix.ESTALE)
		}
	}
}

func TestForgetUnderflowAndFlood(t *testing.T) {
	c := rawClient(t)
	c.init()
	file, dir := c.lookup("in", "file"), c.lookup("in")
	for range 1000 {
		c.call(opForget, file, ^uint64(0))
		c.call(opForget, dir, ^uint64(0))
		c.call(opForget, rootID, ^uint64(0))
		c.call(opForget, 12345, uint64(1))
	}
	_, errno := c.call(opGetattr, file, uint64(0), uint64(0))
	c.want("forgotten node", errno, unix.ESTALE)
	_, errno = c.call(opGetattr, dir, uint64(0), uint64(0))
	c.want("export", errno, 0)
	again := c.lookup("in", "file")
	batch := make([]byte, 16*1000)
	for i := range 1000 {
		binary.LittleEndian.PutUint64(batch[16*i:], again)
		binary.LittleEndian.PutUint64(batch[16*i+8:], 1<<40)
	}
	c.call(opBatchForget, 0, u32(1000), uint32(0), batch)
	before := c.s.Malformed()
	c.call(opBatchForget, 0, ^uint32(0), uint32(0), batch)
	if c.s.Malformed() == before {
		t.Error("BATCH_FORGET of 2^32 was taken")
	}
	_, errno = c.call(opGetattr, again, uint64(0), uint64(0))
	c.want("batch-forgotten node", errno, unix.ESTALE)
}

func TestForgetRacesLookup(t *testing.T) {
	c := rawClient(t)
	c.init()
	dir := c.lookup("in")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 2000 {
				b, errno := c.call(opLookup, dir, "file")
				if errno != 0 {
					t.Error("LOOKUP:", errno)
					return
				}
				node := binary.LittleEndian.Uint64(b)
				// The lookup holds the node until it is forgotten.
				if _, errno := c.call(opGetattr, node, uint64(0), uint64(0)); errno != 0 {
					t.Error("GETATTR:", errno)
				}
				c.call(opForget, node, uint64(1))
			}
		})
	}
	wg.Wait()
}

func TestHugeSizes(t *testing.T) {
	c := rawClient(t)
	c.init()
	file, dir := c.lookup("in", "file"), c.lookup("in")
	fh, dh := c.open(file, unix.O_RDWR), c.open(dir, unix.O_DIRECTORY)
	if got, errno := c.read(file, fh, 0, ^uint32(0)); got != "file" || errno != 0 {
		t.Errorf("READ of 4 GiB: %q %v", got, errno)
	}
	for _, off := range []uint64{1 << 63, ^uint64(0), 1<<63 - 1} {
		if got, errno := c.read(file, fh, off, 100); got != "" || errno == 0 && off>>63 == 1 {
			t.Errorf("READ at %#x: %q %v", off, got, errno)
		}
		c.want("WRITE", c.write(file, fh, off, "x", 0), unix.EINVAL, unix.EFBIG)
		_, errno := c.call(opFallocate, file, fh, off, off, uint32(0), uint32(0))
		c.want("FALLOCATE", errno, unix.EFBIG, unix.EINVAL)
		c.want("truncate", c.setattr(file, setSize, off, 0), unix.EINVAL, unix.EFBIG)
		_, errno = c.call(opLseek, file, fh, off, u32(unix.SEEK_DATA), uint32(0))
		c.want("LSEEK", errno, unix.ENXIO, unix.EINVAL)
		_, errno = c.call(opCopyFileRange, file, fh, off, file, fh, off, off, uint64(0))
		if errno == 0 {
			t.Error("COPY_FILE_RANGE worked at", off)
		}
		_, _ = c.call(opReaddir, dir, dh, off, ^uint32(0), make([]byte, 20))
		_, _ = c.call(opReaddirplus, rootID, uint64(0), off, ^uint32(0), make([]byte, 20))
	}
	// WRITE that says more than it brings.
	_, errno := c.call(opWrite, file, fh, uint64(0), ^uint32(0), make([]byte, 20), []byte("short"))
	c.want("WRITE of 4 GiB", errno, errMalformed)
	for _, op := range []uint32{opReaddir, opReaddirplus} {
		dh := c.open(dir, unix.O_DIRECTORY) // a seek past the end confuses ext4
		if b, errno := c.call(op, dir, dh, uint64(0), ^uint32(0), make([]byte, 20)); errno != 0 || len(b) == 0 {
			t.Error("READDIR of 4 GiB:", len(b), errno)
		}
		_, errno := c.call(op, dir, dh, uint64(0), uint32(1), make([]byte, 20))
		c.want("READDIR of 1 byte", errno, unix.EINVAL)
	}
	_, errno = c.call(opSetxattr, file, ^uint32(0), uint32(0), "user.x", []byte("1"))
	c.want("SETXATTR", errno, unix.E2BIG)
	_, errno = c.call(opSetxattr, file, u32(maxXattr), uint32(0), "user.x", []byte("1"))
	c.want("SETXATTR", errno, unix.EINVAL)
	_, errno = c.call(opSymlink, dir, "long", strings.Repeat("x", 5000))
	c.want("SYMLINK", errno, unix.ENAMETOOLONG)
}

func TestHandlesBelongToTheirNode(t *testing.T) {
	top := tree(t, map[string]string{"a": "a", "b": "b", "d/": ""})
	c := newClient(t, Options{Locks: true}, map[string]string{"in": top})
	a, b, dir := c.lookup("in", "a"), c.lookup("in", "b"), c.lookup("in", "d")
	ah, dh := c.open(a, unix.O_RDWR), c.open(dir, unix.O_DIRECTORY)
	gone := c.open(b, unix.O_RDWR)
	if _, errno := c.call(opRelease, b, gone, uint64(0), uint64(0)); errno != 0 {
		t.Fatal(errno)
	}
	for op, parts := range map[uint32][]any{
		opRead: {uint64(0), u32(10), make([]byte, 20)}, opWrite: {uint64(0), u32(1), make([]byte, 20), []byte("x")},
		opFlush: {uint64(0), uint64(0)}, opRelease: {uint64(0), uint64(0)}, opFsync: {uint64(0)},
		opFallocate: {uint64(0), uint64(1), uint64(0)}, opLseek: {uint64(0), u32(unix.SEEK_DATA), uint32(0)},
		opReaddir: {uint64(0), u32(100), make([]byte, 20)}, opSetlk: {uint64(1), uint64(0), uint64(0), make([]byte, 16)},
		opCopyFileRange: {uint64(0), b, gone, uint64(0), uint64(1), uint64(0)},
	} {
		for _, h := range []uint64{ah, dh, gone, 0, 99, ^uint64(0)} {
			_, errno := c.call(op, b, append([]any{h}, parts...)...)
			c.want(fmt.Sprintf("opcode %d with handle %d", op, h), errno, unix.EBADF)
		}
	}
	_, errno := c.call(opReaddir, a, ah, uint64(0), u32(100), make([]byte, 20))
	c.want("READDIR of a file", errno, unix.ENOTDIR)
	_, errno = c.call(opRead, dir, dh, uint64(0), u32(100), make([]byte, 20))
	c.want("READ of a directory", errno, unix.EISDIR)
	c.want("WRITE to a directory", c.write(dir, dh, 0, "x", 0), unix.EBADF)
}

// TestReusedInodeNumber gives the number of a file that the guest knows, and
// that the server may not hold open, to another file.
func TestReusedInodeNumber(t *testing.T) {
	top := tree(t, map[string]string{"in/": ""})
	c := newClient(t, Options{CachedDescriptors: 1}, map[string]string{"in": filepath.Join(top, "in")})
	path := func(i int) string { return filepath.Join(top, "in", fmt.Sprint(i)) }
	nodes, numbers := map[uint64]int{}, map[uint64]bool{}
	for i := range 200 {
		if err := os.WriteFile(path(i), []byte{byte(i)}, 0o644); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Stat(path(i), &st); err != nil {
			t.Fatal(err)
		}
		numbers[st.Ino] = true
		node := c.lookup("in", fmt.Sprint(i))
		if old, ok := nodes[node]; ok {
			t.Fatalf("file %d has the node of file %d", i, old)
		}
		nodes[node] = i
		if err := os.Remove(path(i)); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d inode numbers for %d files", len(numbers), len(nodes))
}

func TestDescriptorsStayBounded(t *testing.T) {
	top := tree(t, map[string]string{"in/": ""})
	const files, cached = 3000, 100
	for i := range files {
		if err := os.WriteFile(filepath.Join(top, "in", fmt.Sprint(i)), fmt.Append(nil, i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c := newClient(t, Options{CachedDescriptors: cached}, map[string]string{"in": filepath.Join(top, "in")})
	nodes := make([]uint64, files)
	most := int64(0)
	for i := range files {
		nodes[i] = c.lookup("in", fmt.Sprint(i))
		fh := c.open(nodes[i], unix.O_RDONLY)
		c.call(opRelease, nodes[i], fh, uint64(0), uint64(0))
		most = max(most, c.s.host.fds.live.Load())
	}
	if most > cached+50 {
		t.Errorf("%d descriptors for %d files, want about %d", most, files, cached)
	}
	for i, node := range nodes {
		fh := c.open(node, unix.O_RDONLY)
		if got, errno := c.read(node, fh, 0, 10); got != fmt.Sprint(i) || errno != 0 {
			t.Fatalf("file %d reads %q, %v", i, got, errno)
		}
		c.call(opRelease, node, fh, uint64(0), uint64(0))
		if again := c.lookup("in", fmt.Sprint(i)); again != node {
			t.Fatalf("file %d was node %d and is node %d", i, node, again)
		}
	}
}

// TestKnownFilesAreBounded has a guest forget nothing: the server's notes do not fill the
// host's memory.
func TestKnownFilesAreBounded(t *testing.T) {
	const most = 50
	c := newClient(t, Options{Known: most}, map[string]string{"in": tree(t, map[string]string{"file": "file"})})
	dir, file := c.lookup("in"), c.lookup("in", "file")
	var nodes []uint64
	for i := range 2 * most {
		b, errno := c.call(opMkdir, dir, u32(0o755), uint32(0), fmt.Sprint(i))
		if errno != 0 {
			c.want("MKDIR", errno, unix.ENFILE)
			break
		}
		nodes = append(nodes, binary.LittleEndian.Uint64(b))
	}
	if len(nodes) == 0 || len(c.s.nodes.byID) > most {
		t.Errorf("%d directories, %d nodes, %d are the most", len(nodes), len(c.s.nodes.byID), most)
	}
	if again := c.lookup("in", "file"); again != file {
		t.Error("a file that is known was not found")
	}
	if b, errno := c.call(opReaddirplus, dir, c.open(dir, unix.O_DIRECTORY), uint64(0), u32(1<<16), u32(0), uint64(0), uint64(0)); errno != 0 || len(b) == 0 {
		t.Errorf("READDIRPLUS: %v", errno)
	}
	c.call(opForget, nodes[0], uint64(100))
	if _, errno := c.call(opMkdir, dir, u32(0o755), uint32(0), "room"); errno != 0 {
		t.Error("MKDIR after FORGET:", errno)
	}
}

// TestWaitingHoldsNoBody has a request wait whose body is as long as it can be: of many,
// the bodies would take more of the host's memory than the guest has.
func TestWaitingHoldsNoBody(t *testing.T) {
	c := newClient(t, Options{Agent: 1}, map[string]string{"in": tree(t, map[string]string{"file": "file"})})
	c.pid = 1
	const waiting, long = 50, maxBody - 1<<10
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var wg sync.WaitGroup
	body := make([]byte, long)
	for range waiting {
		wg.Go(func() {
			c.call(opIoctl, rootID, uint64(0), u32(0), u32(changes.Next), uint64(0), u32(4), u32(1<<16), u32(1<<20), body)
		})
	}
	for range 100 { // all are in the server after a moment
		time.Sleep(10 * time.Millisecond)
		runtime.Gosched()
	}
	runtime.GC()
	runtime.GC() // what was given back to a pool goes with the second
	runtime.ReadMemStats(&now)
	c.s.Interrupt()
	wg.Wait()
	// The test's own copies of the requests are there, once.
	if grown := int64(now.HeapAlloc) - int64(before.HeapAlloc); grown > waiting*(long+1<<18)+8<<20 {
		t.Errorf("%d MiB for %d requests of %d KiB", grown>>20, waiting, long>>10)
	}
}

func TestExhaustedDescriptors(t *testing.T) {
	top := tree(t, map[string]string{"file": "file"})
	c := newClient(t, Options{}, map[string]string{"in": top})
	file := c.lookup("in", "file")
	c.s.host.fds.hard = 100
	var open []uint64
	for {
		fh, errno := c.tryOpen(file, unix.O_RDONLY)
		if errno != 0 {
			c.want("OPEN", errno, unix.ENFILE)
			break
		}
		if open = append(open, fh); len(open) > 200 {
			t.Fatal("no end of descriptors")
		}
	}
	_, errno := c.call(opGetattr, file, uint64(0), uint64(0))
	c.want("GETATTR", errno, 0)
	for _, fh := range open {
		c.call(opRelease, file, fh, uint64(0), uint64(0))
	}
	c.open(file, unix.O_RDONLY)
}
