package export

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestExportsNeedANameAndAFile(t *testing.T) {
	top := tree(t, map[string]string{"file": "file", "dir/": "", "link": "-> file"})
	if err := unix.Mkfifo(filepath.Join(top, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, Options{}, map[string]string{"taken": top})
	for _, e := range []struct {
		name, path string
		want       error
	}{
		{"taken", "dir", os.ErrExist}, {"", "dir", os.ErrInvalid}, {"..", "dir", os.ErrInvalid},
		{"a/b", "dir", os.ErrInvalid}, {"fifo", "fifo", os.ErrInvalid}, {"link", "link", os.ErrInvalid},
		{"dir", "dir", nil}, {"file", "file", nil},
	} {
		fd, err := unix.Open(filepath.Join(top, e.path), unix.O_PATH|unix.O_NOFOLLOW, 0)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), e.path)
		if err := c.s.AddExport(e.name, f, Policy{}); !errors.Is(err, e.want) {
			t.Errorf("export %s as %q: %v, want %v", e.path, e.name, err, e.want)
		}
		f.Close()
	}
}

func TestRootLists(t *testing.T) {
	top := tree(t, map[string]string{"file": "file"})
	c := newClient(t, Options{}, nil)
	for i := range 300 {
		c.export(fmt.Sprint("export-", i), filepath.Join(top, "file"), Policy{})
	}
	for op, fixed := range map[uint32]int{opReaddir: 0, opReaddirplus: entryOutSize} {
		var names []string
		for off := uint64(0); ; {
			b, errno := c.call(op, rootID, uint64(0), off, u32(1000), make([]byte, 20))
			c.want("READDIR", errno, 0)
			if len(b) == 0 {
				break
			}
			for len(b) > 0 {
				d := b[fixed:]
				n := int(binary.LittleEndian.Uint32(d[16:]))
				off = binary.LittleEndian.Uint64(d[8:])
				names = append(names, string(d[24:24+n]))
				b = b[fixed+(24+n+7)&^7:]
			}
		}
		if len(names) != 302 || names[0] != "." || names[2] != "export-0" || names[301] != "export-299" {
			t.Errorf("%d names: %q", len(names), names)
		}
	}
}

// openFlagsOf opens and closes a file and returns the flags of the reply.
func (c *client) openFlagsOf(node uint64) uint32 {
	c.t.Helper()
	b, errno := c.call(opOpen, node, u32(unix.O_RDONLY), uint32(0))
	c.want("OPEN", errno, 0)
	c.call(opRelease, node, binary.LittleEndian.Uint64(b), uint64(0), uint64(0))
	return binary.LittleEndian.Uint32(b[8:])
}

func TestPagesAreKeptForAFileThatDidNotChange(t *testing.T) {
	top := tree(t, map[string]string{"file": "file"})
	c := newClient(t, Options{}, map[string]string{"in": top})
	c.export("never", top, Policy{Cache: CacheNever})
	c.export("always", top, Policy{Cache: CacheAlways})
	file := c.lookup("in", "file")
	time.Sleep(2 * settled) // the stamp of its creation must be past
	keeps := func() bool { return c.openFlagsOf(file)&fopenKeepCache != 0 }
	if keeps() {
		t.Error("kept pages that were never read")
	}
	for range 2 {
		if !keeps() {
			t.Error("did not keep pages of a file that has not changed")
		}
	}
	if err := os.WriteFile(filepath.Join(top, "file"), []byte("FILE"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time the stamp is too young to tell the next change
		if keeps() {
			t.Error("kept pages of a file that has changed")
		}
	}
	if c.openFlagsOf(c.lookup("never", "file"))&fopenKeepCache != 0 || c.openFlagsOf(c.lookup("always", "file"))&fopenKeepCache == 0 {
		t.Error("policy was not followed")
	}
}

func TestNewFilesBelongToTheCaller(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("other users' files need root")
	}
	top := tree(t, map[string]string{"group/": ""})
	if err := os.Chown(filepath.Join(top, "group"), 0, 500); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(top, "group"), os.ModeSetgid|0o700); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, Options{}, map[string]string{"in": top})
	dir, group := c.lookup("in"), c.lookup("in", "group")
	c.uid, c.gid = 1234, 5678
	// The guest's kernel has allowed it: what the host thinks of user 1234
	// in a directory of root's does not matter.
	c.want("CREATE", named["CREATE"](c, dir, 0, "file"), 0)
	c.want("MKDIR", named["MKDIR"](c, group, 0, "dir"), 0)
	c.want("SYMLINK", named["SYMLINK"](c, dir, 0, "link"), 0)
	for name, want := range map[string][3]uint32{"file": {1234, 5678, 0o644}, "link": {1234, 5678, 0o777}, "group/dir": {1234, 500, 0o2755}} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(top, name), &st); err != nil {
			t.Fatal(err)
		}
		if got := [3]uint32{st.Uid, st.Gid, st.Mode & 0o7777}; got != want {
			t.Errorf("%s: %o, want %o", name, got, want)
		}
	}
	c.uid = ^uint32(0)
	c.want("CREATE as nobody", named["CREATE"](c, dir, 0, "other"), unix.EPERM)
	c.uid, c.gid = 0, 0
	c.want("CREATE as root", named["CREATE"](c, dir, 0, "roots"), 0)
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(top, "roots"), &st); err != nil || st.Uid != 0 {
		t.Error(st.Uid, err)
	}
}

func TestSetIDBitsAreCleared(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("set-id files of others need root")
	}
	top := tree(t, map[string]string{"file": "file", "other": "other"})
	path := filepath.Join(top, "file")
	c := newClient(t, Options{}, map[string]string{"in": top})
	file, other := c.lookup("in", "file"), c.lookup("in", "other")
	fh, otherFH := c.open(file, unix.O_RDWR), c.open(other, unix.O_RDONLY)
	// These two have no flag: it is the caller's user that decides.
	by := func(uid uint32, op uint32, node uint64, parts ...any) unix.Errno {
		c.uid = uid
		defer func() { c.uid = 0 }()
		_, e := c.call(op, node, parts...)
		return e
	}
	allocate := func(uid uint32) unix.Errno {
		return by(uid, opFallocate, file, fh, uint64(0), uint64(4096), uint32(0), uint32(0))
	}
	copyTo := func(uid uint32) unix.Errno {
		return by(uid, opCopyFileRange, other, otherFH, uint64(0), file, fh, uint64(0), uint64(4), uint64(0))
	}
	for what, change := range map[string]struct {
		do   func() unix.Errno
		kept bool
	}{
		"write":               {func() unix.Errno { return c.write(file, fh, 0, "x", writeKillPriv) }, false},
		"privileged write":    {func() unix.Errno { return c.write(file, fh, 0, "x", 0) }, true},
		"truncate":            {func() unix.Errno { return c.setattr(file, setSize|setKillPriv, 1, 0) }, false},
		"privileged truncate": {func() unix.Errno { return c.setattr(file, setSize, 1, 0) }, true},
		"chown":               {func() unix.Errno { return c.setattr(file, setUID|setGID, 0, 0) }, false},
		"chown with mode":     {func() unix.Errno { return c.setattr(file, setUID|setMode, 0, 0o6755) }, true},
		"O_TRUNC": {func() unix.Errno {
			_, e := c.call(opOpen, file, u32(unix.O_WRONLY|unix.O_TRUNC), u32(openKillPriv))
			return e
		}, false},
		"privileged O_TRUNC":    {func() unix.Errno { _, e := c.call(opOpen, file, u32(unix.O_WRONLY|unix.O_TRUNC), uint32(0)); return e }, true},
		"fallocate":             {func() unix.Errno { return allocate(1000) }, false},
		"privileged fallocate":  {func() unix.Errno { return allocate(0) }, true},
		"copy to it":            {func() unix.Errno { return copyTo(1000) }, false},
		"privileged copy to it": {func() unix.Errno { return copyTo(0) }, true},
		"chmod, no bits wanted": {func() unix.Errno { return c.setattr(file, setMode, 0, 0o755) }, false},
	} {
		if err := os.Chmod(path, os.ModeSetuid|os.ModeSetgid|0o755); err != nil {
			t.Fatal(err)
		}
		c.want(what, change.do(), 0)
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if kept := fi.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0; kept != change.kept {
			t.Errorf("%s: mode is %v", what, fi.Mode())
		}
	}
}

// TestInterruptBeforeWaiting lets INTERRUPT overtake the request it is for.
func TestInterruptBeforeWaiting(t *testing.T) {
	top := tree(t, map[string]string{"file": "file"})
	c := newClient(t, Options{Locks: true}, map[string]string{"in": top})
	file := c.lookup("in", "file")
	fh := c.open(file, unix.O_RDWR)
	lock := func(op uint32, owner uint64) []byte {
		return c.encode(op, file, fh, owner, uint64(0), uint64(99), u32(unix.F_WRLCK), uint32(0), uint64(0))
	}
	_, errno := c.send(lock(opSetlk, 1), 100)
	c.want("SETLK", errno, 0)
	_, errno = c.send(lock(opSetlk, 2), 100)
	c.want("SETLK of another", errno, unix.EAGAIN)
	wait := lock(opSetlkw, 2)
	for i := range uint64(keptEarly - 1) {
		c.call(opInterrupt, 0, 1<<40+i)
	}
	c.call(opInterrupt, 0, binary.LittleEndian.Uint64(wait[8:]))
	_, errno = c.send(wait, 100)
	c.want("SETLKW", errno, unix.EINTR)
	// A close of the file by the owner lets the next one in.
	_, errno = c.call(opFlush, file, fh, uint64(0), uint64(1))
	c.want("FLUSH", errno, 0)
	_, errno = c.send(lock(opSetlkw, 2), 100)
	c.want("SETLKW", errno, 0)
}

func TestInodeNumbersAreUnique(t *testing.T) {
	var n inodeNumbers
	n.init()
	seen := map[uint64][2]uint64{}
	for dev := range uint64(5) {
		for _, ino := range []uint64{1, 2, 3, 1 << 32, 1<<48 - 1, 1 << 48, 1<<48 + 1, 1 << 63, ^uint64(0)} {
			got := n.of(dev, ino)
			if was, ok := seen[got]; ok || got == rootIno {
				t.Errorf("%d of device %d and %v are both %d", ino, dev, was, got)
			}
			seen[got] = [2]uint64{dev, ino}
			if again := n.of(dev, ino); again != got {
				t.Errorf("%d of device %d was %d and is %d", ino, dev, got, again)
			}
			if dev == 0 && ino < 1<<48 && got != ino {
				t.Errorf("%d of the first device is %d", ino, got)
			}
		}
	}
}

// attrFlags are the flags of the attributes in a reply to LOOKUP.
func (c *client) attrFlags(dir uint64, name string) uint32 {
	c.t.Helper()
	b, errno := c.call(opLookup, dir, name)
	c.want("LOOKUP "+name, errno, 0)
	return binary.LittleEndian.Uint32(b[entryOutSize-4:])
}

func TestMountsAreAnnounced(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	top := tree(t, map[string]string{"plain/x": "x", "tmp/": "", "bind/": ""})
	for target, m := range map[string]struct {
		source, fs string
		flags      uintptr
	}{"tmp": {"tmpfs", "tmpfs", 0}, "bind": {filepath.Join(top, "plain"), "", unix.MS_BIND}} {
		target = filepath.Join(top, target)
		if err := unix.Mount(m.source, target, m.fs, m.flags, ""); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(target, unix.MNT_DETACH)
	}
	c := newClient(t, Options{Submounts: true}, map[string]string{"in": top})
	c.export("file", filepath.Join(top, "plain/x"), Policy{})
	in := c.lookup("in")
	for _, e := range []struct {
		dir  uint64
		name string
		want uint32
	}{{rootID, "in", attrSubmount}, {rootID, "file", 0}, {in, "plain", 0}, {in, "tmp", attrSubmount}, {in, "bind", attrSubmount}, {c.lookup("in", "bind"), "x", 0}} {
		if got := c.attrFlags(e.dir, e.name); got != e.want {
			t.Errorf("%s has flags %#x, want %#x", e.name, got, e.want)
		}
	}
	c.export("one", top, Policy{OneDevice: true})
	if a, b := c.attrFlags(rootID, "one"), c.attrFlags(c.lookup("one"), "tmp"); a|b != 0 {
		t.Errorf("flags of one device are %#x and %#x", a, b)
	}
	off := newClient(t, Options{}, map[string]string{"in": top})
	if got := off.attrFlags(off.lookup("in"), "tmp"); got != 0 {
		t.Errorf("without the option, flags are %#x", got)
	}
}

func TestWhatIsNotThereIsKept(t *testing.T) {
	top := tree(t, map[string]string{"file": "file"})
	c := newClient(t, Options{}, map[string]string{"auto": top})
	c.export("always", top, Policy{Cache: CacheAlways})
	_, errno := c.call(opLookup, c.lookup("auto"), "none")
	c.want("LOOKUP", errno, unix.ENOENT)
	b, errno := c.call(opLookup, c.lookup("always"), "none")
	c.want("LOOKUP", errno, 0)
	if len(b) != entryOutSize || binary.LittleEndian.Uint64(b) != 0 || binary.LittleEndian.Uint64(b[16:]) == 0 {
		t.Errorf("%v", b)
	}
}
