package export

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// manyFiles is how many files are in a large directory: MICROVM_FILES, or few enough
// for every day.
func manyFiles(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("MICROVM_FILES"))
	if err != nil {
		return 20_000
	}
	t.Logf("%d files", n)
	return n
}

// makeFiles makes empty files, with their number as name.
func makeFiles(t *testing.T, dir string, n int) {
	t.Helper()
	d, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(d)
	for i := range n {
		if err := unix.Mknodat(d, strconv.Itoa(i), unix.S_IFREG|0o644, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// listPlus reads a directory as READDIRPLUS tells it, starting anew from the offset of
// the last entry each time, and gives f each entry's name and node.
func (c *client) listPlus(dir uint64, f func(name string, node uint64)) {
	c.t.Helper()
	fh := c.open(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	defer c.call(opReleasedir, dir, fh, uint64(0), uint64(0))
	for off := uint64(0); ; {
		b, errno := c.call(opReaddirplus, dir, fh, off, u32(64<<10), make([]byte, 20))
		if c.want("READDIRPLUS", errno, 0); len(b) == 0 || errno != 0 {
			return
		}
		for len(b) > 0 {
			node, entry := binary.LittleEndian.Uint64(b), b[entryOutSize:]
			off = binary.LittleEndian.Uint64(entry[8:])
			length := int(binary.LittleEndian.Uint32(entry[16:]))
			f(string(entry[direntSize:][:length]), node)
			b = b[(entryOutSize+direntSize+length+7)&^7:]
		}
	}
}

func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// TestLargeDirectory lists a directory whose files the guest keeps, opens each of them,
// and forgets them.
func TestLargeDirectory(t *testing.T) {
	files, dir := manyFiles(t), t.TempDir()
	makeFiles(t, dir, files)
	const cached = 500
	c := newClient(t, Options{CachedDescriptors: cached}, map[string]string{"in": dir})
	in := c.lookup("in")
	before := heap()
	nodes := make([]uint64, files)
	most := int64(0)
	c.listPlus(in, func(name string, node uint64) {
		i, err := strconv.Atoi(name)
		if err != nil {
			return // . and ..
		}
		if node == 0 || nodes[i] != 0 {
			t.Fatalf("%s has node %d, and had %d", name, node, nodes[i])
		}
		nodes[i] = node
		most = max(most, c.s.host.fds.live.Load())
	})
	each := (heap() - before) / files
	for i, node := range nodes {
		if node == 0 {
			t.Fatalf("%d is missing", i)
		}
		b, errno := c.send(c.encode(opOpen, node, uint32(0), uint32(0)), 100)
		if errno != 0 {
			t.Fatalf("OPEN of %d: %v", i, errno)
		}
		most = max(most, c.s.host.fds.live.Load())
		c.send(c.encode(opRelease, node, b[:8], uint64(0), uint64(0)), 100)
	}
	t.Logf("at most %d descriptors, %d bytes a file", most, each)
	if most > 2*cached { // a few wait for their turn
		t.Errorf("%d descriptors", most)
	}
	if each > 1500 {
		t.Errorf("a file that the guest knows takes %d bytes", each)
	}
	for _, node := range nodes {
		c.send(c.encode(opForget, node, uint64(1)), 100)
	}
	if known := len(c.s.nodes.byID); known > 2 {
		t.Errorf("%d nodes are left", known)
	}
	if left := heap() - before; left > files*300+1<<20 { // maps keep their buckets
		t.Errorf("%d bytes are left", left)
	}
}

// TestDeepTree goes down a tree whose path no system call of the host would take.
func TestDeepTree(t *testing.T) {
	const depth = 500
	dir := t.TempDir()
	d, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	name := func(i int) string { return fmt.Sprintf("%s%d", strings.Repeat("d", 50), i) }
	for i := range depth {
		if err := unix.Mkdirat(d, name(i), 0o755); err != nil {
			t.Fatal(err)
		}
		below, err := unix.Openat(d, name(i), unix.O_PATH|unix.O_DIRECTORY, 0)
		unix.Close(d)
		if err != nil {
			t.Fatal(err)
		}
		d = below
	}
	unix.Close(d)
	c := newClient(t, Options{CachedDescriptors: 10}, map[string]string{"in": dir})
	nodes := []uint64{c.lookup("in")}
	for i := range depth {
		b, errno := c.call(opLookup, nodes[i], name(i))
		if errno != 0 {
			t.Fatalf("level %d: %v", i, errno)
		}
		nodes = append(nodes, binary.LittleEndian.Uint64(b))
	}
	for i := depth; i > 0; i-- {
		c.evict(nodes[i])
	}
	if live := c.s.host.fds.live.Load(); live > 30 {
		t.Errorf("%d descriptors", live)
	}
	leaf := nodes[depth]
	b, errno := c.call(opCreate, leaf, u32(unix.O_RDWR), u32(0o644), uint64(0), "leaf")
	c.want("CREATE", errno, 0)
	file := binary.LittleEndian.Uint64(b)
	c.want("WRITE", c.write(file, binary.LittleEndian.Uint64(b[entryOutSize:]), 0, "deep", 0), 0)
	// Its top moves to another place, by the guest.
	_, errno = c.call(opRename, nodes[0], nodes[0], name(0), "top")
	c.want("RENAME", errno, 0)
	c.evict(nodes[depth/2:]...)
	if got, errno := c.content(file); got != "deep" || errno != 0 {
		t.Errorf("%q, %v", got, errno)
	}
	if _, err := os.Stat(filepath.Join(dir, "top")); err != nil {
		t.Error(err)
	}
}
