package export

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// rootClient has one export, which is the root of the share.
func rootClient(t *testing.T, dir string, p Policy) *client {
	t.Helper()
	s := newServer(t, Options{})
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := s.ExportAsRoot(f, p); err != nil {
		t.Fatal(err)
	}
	if err := s.ExportAsRoot(f, p); err == nil {
		t.Error("there are two roots")
	}
	c := &client{t: t, s: s}
	c.init()
	return c
}

func TestExportAsRoot(t *testing.T) {
	top := tree(t, map[string]string{"secret": "s", "in/file": "file", "in/sub/": ""})
	c := rootClient(t, filepath.Join(top, "in"), Policy{})
	for round := range 2 { // the second after DESTROY
		file, sub := c.lookup("file"), c.lookup("sub")
		if got, errno := c.read(file, c.open(file, unix.O_RDONLY), 0, 100); got != "file" || errno != 0 {
			t.Errorf("READ: %q %v", got, errno)
		}
		c.want("MKDIR", named["MKDIR"](c, rootID, 0, "new"), 0)
		_, errno := c.call(opRename, sub, uint64(rootID), "none", "moved")
		c.want("RENAME into the root", errno, unix.ENOENT)
		_, errno = c.call(opRename, rootID, sub, "new", "moved")
		c.want("RENAME out of the root", errno, 0)
		c.want("RMDIR", func() unix.Errno { _, e := c.call(opRmdir, sub, "moved"); return e }(), 0)
		for _, name := range []string{"..", "secret", ""} {
			if _, errno := c.call(opLookup, rootID, name); errno == 0 {
				t.Errorf("LOOKUP %q worked", name)
			}
		}
		c.call(opForget, rootID, ^uint64(0))
		if round == 0 {
			c.call(opDestroy, rootID)
			c.init()
		}
	}
	var in unix.Stat_t
	if err := unix.Stat(filepath.Join(top, "in"), &in); err != nil {
		t.Fatal(err)
	}
	b, errno := c.call(opReaddir, rootID, c.open(rootID, unix.O_DIRECTORY), uint64(0), u32(4096), make([]byte, 20))
	c.want("READDIR", errno, 0)
	seen := map[string]uint64{}
	for len(b) > 0 {
		n := int(binary.LittleEndian.Uint32(b[16:]))
		seen[string(b[24:24+n])] = binary.LittleEndian.Uint64(b)
		b = b[(24+n+7)&^7:]
	}
	if len(seen) != 4 || seen[".."] != seen["."] || seen["."] != in.Ino {
		t.Error(seen, in.Ino)
	}
}

func TestReadOnlyRoot(t *testing.T) {
	top := tree(t, map[string]string{"file": "file"})
	c := rootClient(t, top, Policy{ReadOnly: true})
	file, before := c.lookup("file"), snapshot(t, top)
	for op, send := range named {
		if op != "LOOKUP" {
			c.want(op, send(c, rootID, file, "file"), unix.EROFS)
		}
	}
	if after := snapshot(t, top); after != before {
		t.Error("changed:", after)
	}
}

func TestOnlyADirectoryIsARoot(t *testing.T) {
	top := tree(t, map[string]string{"file": "file"})
	c := newClient(t, Options{}, nil)
	f, err := os.Open(filepath.Join(top, "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := c.s.ExportAsRoot(f, Policy{}); err == nil {
		t.Error("a file is the root")
	}
}
