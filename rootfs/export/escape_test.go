package export

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Every line of what a hostile guest tries to get out of its exports.

// walled is an export at top/in with a secret beside it.
func walled(t *testing.T) (c *client, top string, dir uint64) {
	top = tree(t, map[string]string{
		"secret": "secret", "out/secret": "secret", "in/file": "file", "in/sub/file": "sub",
		"in/abs": "-> /etc", "in/up": "-> ..", "in/link": "-> file", "in/none": "-> ../made",
	})
	c = newClient(t, Options{}, map[string]string{"in": filepath.Join(top, "in")})
	return c, top, c.lookup("in")
}

var badNames = []string{
	"", ".", "..", "/", "/etc", "a/b", "../secret", "sub/../../secret", "sub/", "./file",
	strings.Repeat("n", 256), strings.Repeat("n", 5000),
}

// named are the operations that take names, each with a name put in.
var named = map[string]func(c *client, dir, file uint64, name string) unix.Errno{
	"LOOKUP":  func(c *client, dir, _ uint64, n string) unix.Errno { _, e := c.call(opLookup, dir, n); return e },
	"SYMLINK": func(c *client, dir, _ uint64, n string) unix.Errno { _, e := c.call(opSymlink, dir, n, "x"); return e },
	"MKNOD": func(c *client, dir, _ uint64, n string) unix.Errno {
		_, e := c.call(opMknod, dir, u32(unix.S_IFREG|0o644), uint32(0), uint64(0), n)
		return e
	},
	"MKDIR": func(c *client, dir, _ uint64, n string) unix.Errno {
		_, e := c.call(opMkdir, dir, u32(0o755), uint32(0), n)
		return e
	},
	"UNLINK": func(c *client, dir, _ uint64, n string) unix.Errno { _, e := c.call(opUnlink, dir, n); return e },
	"RMDIR":  func(c *client, dir, _ uint64, n string) unix.Errno { _, e := c.call(opRmdir, dir, n); return e },
	"LINK":   func(c *client, dir, file uint64, n string) unix.Errno { _, e := c.call(opLink, dir, file, n); return e },
	"RENAME from": func(c *client, dir, _ uint64, n string) unix.Errno {
		_, e := c.call(opRename, dir, dir, n, "to")
		return e
	},
	"RENAME to": func(c *client, dir, _ uint64, n string) unix.Errno {
		_, e := c.call(opRename, dir, dir, "file", n)
		return e
	},
	"RENAME2 from": func(c *client, dir, _ uint64, n string) unix.Errno {
		_, e := c.call(opRename2, dir, dir, uint32(renameExchange), uint32(0), n, "file")
		return e
	},
	"RENAME2 to": func(c *client, dir, _ uint64, n string) unix.Errno {
		_, e := c.call(opRename2, dir, dir, uint32(renameNoReplace), uint32(0), "file", n)
		return e
	},
	"CREATE": func(c *client, dir, _ uint64, n string) unix.Errno {
		_, e := c.call(opCreate, dir, u32(unix.O_RDWR|unix.O_CREAT), u32(0o644), uint64(0), n)
		return e
	},
}

func TestNamesStayInTheirDirectory(t *testing.T) {
	c, top, dir := walled(t)
	file := c.lookup("in", "file")
	before := snapshot(t, top)
	for op, send := range named {
		for _, name := range badNames {
			c.want(op+" "+name, send(c, dir, file, name), unix.EINVAL, unix.ENAMETOOLONG, errMalformed)
		}
	}
	if after := snapshot(t, top); after != before {
		t.Errorf("changed:\n%s\nwas:\n%s", after, before)
	}
}

func TestNamesWithoutNULAreRefused(t *testing.T) {
	c, top, dir := walled(t)
	before := snapshot(t, top)
	for op, fixed := range map[uint32]int{opLookup: 0, opUnlink: 0, opRmdir: 0, opMkdir: 8, opMknod: 16, opCreate: 16, opLink: 8, opRename: 8, opRename2: 16, opSymlink: 0, opRemovexattr: 0, opGetxattr: 8, opSetxattr: 8} {
		_, errno := c.call(op, dir, make([]byte, fixed), []byte("file and no end"))
		c.want("without NUL", errno, unix.EINVAL, errMalformed, unix.ESTALE, unix.EXDEV)
	}
	if after := snapshot(t, top); after != before {
		t.Error("changed:", after)
	}
}

func TestTheRootCantBeChangedOrLeft(t *testing.T) {
	c, top, dir := walled(t)
	file := c.lookup("in", "file")
	before := snapshot(t, top)
	for op, send := range named {
		for _, name := range []string{"in", "new", ".."} {
			if errno := send(c, rootID, file, name); errno == 0 && !(op == "LOOKUP" && name == "in") {
				t.Errorf("%s %q in the root worked", op, name)
			}
		}
	}
	_, errno := c.call(opRename, dir, uint64(rootID), "file", "moved")
	c.want("RENAME to the root", errno, unix.EXDEV, unix.EROFS)
	if after := snapshot(t, top); after != before {
		t.Error("changed:", after)
	}
	if _, errno := c.call(opLookup, rootID, ".."); errno == 0 {
		t.Error("LOOKUP .. in the root worked")
	}
}

func TestParentOfAnExportHasNoNumberOfTheHost(t *testing.T) {
	c, top, dir := walled(t)
	fh := c.open(dir, unix.O_DIRECTORY)
	b, errno := c.call(opReaddir, dir, fh, uint64(0), uint32(4096), uint32(0), uint64(0), uint64(0))
	c.want("READDIR", errno, 0)
	var st unix.Stat_t
	if err := unix.Stat(top, &st); err != nil {
		t.Fatal(err)
	}
	for len(b) > 0 {
		n := int(binary.LittleEndian.Uint32(b[16:]))
		if ino := binary.LittleEndian.Uint64(b); string(b[24:24+n]) == ".." && ino != rootIno || ino == st.Ino {
			t.Errorf("%s has inode number %d", b[24:24+n], ino)
		}
		b = b[(24+n+7)&^7:]
	}
}

func TestSymlinksAreNotFollowed(t *testing.T) {
	c, top, dir := walled(t)
	before := snapshot(t, filepath.Join(top, "out"))
	for _, name := range []string{"abs", "up", "link", "none"} {
		link := c.lookup("in", name)
		for what, errno := range map[string]func() unix.Errno{
			"LOOKUP through":  func() unix.Errno { _, e := c.call(opLookup, link, "secret"); return e },
			"CREATE through":  func() unix.Errno { return named["CREATE"](c, link, link, "made") },
			"OPEN":            func() unix.Errno { _, e := c.tryOpen(link, unix.O_RDWR); return e },
			"OPENDIR":         func() unix.Errno { _, e := c.tryOpen(link, unix.O_DIRECTORY); return e },
			"CREATE over":     func() unix.Errno { return named["CREATE"](c, dir, dir, name) },
			"chmod":           func() unix.Errno { return c.setattr(link, setMode, 0, 0o777) },
			"truncate":        func() unix.Errno { return c.setattr(link, setSize, 0, 0) },
			"MKDIR through":   func() unix.Errno { return named["MKDIR"](c, link, link, "made") },
			"RENAME through":  func() unix.Errno { _, e := c.call(opRename, dir, link, "file", "made"); return e },
			"LISTXATTR hides": func() unix.Errno { _, e := c.call(opGetxattr, link, uint32(0), uint32(0), "user.x"); return e },
		} {
			if e := errno(); e == 0 {
				t.Errorf("%s of the link %s worked", what, name)
			}
		}
	}
	if _, err := os.Lstat(filepath.Join(top, "made")); err == nil {
		t.Error("a file was made outside")
	}
	if after := snapshot(t, filepath.Join(top, "out")); after != before {
		t.Error("changed:", after)
	}
}

// setattr sends SETATTR with a size and a mode.
func (c *client) setattr(node uint64, valid uint32, size uint64, mode uint32) unix.Errno {
	_, errno := c.call(opSetattr, node, valid, uint32(0), uint64(0), size, make([]byte, 44), mode, uint32(0), c.uid, c.gid, uint32(0))
	return errno
}

// TestSwappedSymlink lets the host swap a directory for a link to the outside
// while the guest walks through it.
func TestSwappedSymlink(t *testing.T) {
	c, top, dir := walled(t)
	walk, other := filepath.Join(top, "in/walk"), filepath.Join(top, "in/other")
	if err := os.Mkdir(walk, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../out", other); err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !stop.Load() {
			_ = unix.Renameat2(unix.AT_FDCWD, walk, unix.AT_FDCWD, other, unix.RENAME_EXCHANGE)
		}
	}()
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		b, errno := c.call(opLookup, dir, "walk")
		if errno != 0 {
			t.Error("LOOKUP walk:", errno)
			break
		}
		node := binary.LittleEndian.Uint64(b)
		if _, errno := c.call(opLookup, node, "secret"); errno == 0 {
			t.Error("walked out of the export")
			break
		}
		_ = named["CREATE"](c, node, node, "made")
		_ = named["UNLINK"](c, node, node, "secret")
		_, _ = c.call(opForget, node, uint64(1))
	}
	stop.Store(true)
	<-done
	entries, err := os.ReadDir(filepath.Join(top, "out"))
	if err != nil || len(entries) != 1 {
		t.Error("outside:", entries, err)
	}
}

func TestMagicLinksLeadNowhere(t *testing.T) {
	c := newClient(t, Options{}, map[string]string{"proc": "/proc/self"})
	for _, name := range []string{"root", "cwd", "exe"} {
		link := c.lookup("proc", name)
		if _, errno := c.tryOpen(link, unix.O_RDONLY); errno == 0 {
			t.Error("opened", name)
		}
		if _, errno := c.call(opLookup, link, "etc"); errno == 0 {
			t.Error("walked through", name)
		}
	}
}

func TestOnlyFilesAndDirectoriesAreOpened(t *testing.T) {
	top := tree(t, map[string]string{"in/": ""})
	for name, mode := range map[string]uint32{"fifo": unix.S_IFIFO, "socket": unix.S_IFSOCK} {
		if err := unix.Mknod(filepath.Join(top, "in", name), mode|0o666, 0); err != nil {
			t.Fatal(err)
		}
	}
	c := newClient(t, Options{}, map[string]string{"in": filepath.Join(top, "in"), "dev": "/dev"})
	dir := c.lookup("in")
	for _, path := range [][]string{{"in", "fifo"}, {"in", "socket"}, {"dev", "null"}, {"dev", "zero"}} {
		node := c.lookup(path...)
		for _, flags := range []int{unix.O_RDONLY, unix.O_RDWR, unix.O_WRONLY | unix.O_TRUNC, unix.O_DIRECTORY} {
			if _, errno := c.tryOpen(node, flags); errno == 0 {
				t.Error("opened", path)
			}
		}
		c.want("truncate", c.setattr(node, setSize, 0, 0), unix.EINVAL)
		if _, errno := c.call(opListxattr, node, uint32(100), uint32(0)); errno != 0 {
			t.Error("LISTXATTR:", errno)
		}
	}
	// A FIFO in the way of CREATE must not block the server.
	if errno := named["CREATE"](c, dir, dir, "fifo"); errno == 0 {
		t.Error("CREATE opened a FIFO")
	}
}

func TestDeviceNodesNeedThePolicy(t *testing.T) {
	top := tree(t, map[string]string{"no/": "", "yes/": ""})
	c := newClient(t, Options{}, map[string]string{"no": filepath.Join(top, "no")})
	c.export("yes", filepath.Join(top, "yes"), Policy{Devices: true})
	mknod := func(dir uint64, name string, mode, rdev uint32) unix.Errno {
		_, errno := c.call(opMknod, dir, mode|0o600, rdev, uint64(0), name)
		return errno
	}
	no, yes := c.lookup("no"), c.lookup("yes")
	c.want("char", mknod(no, "c", unix.S_IFCHR, 0x103), unix.EPERM)
	c.want("block", mknod(no, "b", unix.S_IFBLK, 0x800), unix.EPERM)
	c.want("block 0/0", mknod(no, "z", unix.S_IFBLK, 0), unix.EPERM)
	c.want("whiteout", mknod(no, "w", unix.S_IFCHR, 0), 0)
	c.want("directory", mknod(no, "d", unix.S_IFDIR, 0), unix.EINVAL)
	if os.Getuid() != 0 {
		t.Skip("making device nodes needs root")
	}
	c.want("char", mknod(yes, "c", unix.S_IFCHR, 0x103), 0)
	if _, errno := c.tryOpen(c.lookup("yes", "c"), unix.O_RDONLY); errno == 0 {
		t.Error("opened a device")
	}
}

// mutations are tried on a read-only export with everything looked up.
func TestReadOnlyMeansReadOnly(t *testing.T) {
	top := tree(t, map[string]string{"ro/file": "file", "ro/dir/x": "x", "rw/file": "file"})
	c := newClient(t, Options{}, map[string]string{"rw": filepath.Join(top, "rw")})
	c.export("ro", filepath.Join(top, "ro"), Policy{ReadOnly: true})
	c.export("one", filepath.Join(top, "ro/file"), Policy{ReadOnly: true})
	dir, file, sub := c.lookup("ro"), c.lookup("ro", "file"), c.lookup("ro", "dir")
	one, rw, rwFile := c.lookup("one"), c.lookup("rw"), c.lookup("rw", "file")
	fh, dh, oh := c.open(file, unix.O_RDONLY), c.open(sub, unix.O_DIRECTORY), c.open(one, unix.O_RDONLY)
	rwh := c.open(rwFile, unix.O_RDWR)
	before := snapshot(t, filepath.Join(top, "ro"))
	for op, send := range named {
		if op != "LOOKUP" {
			for _, name := range []string{"file", "dir", "new"} {
				c.want(op, send(c, dir, file, name), unix.EROFS)
			}
		}
	}
	call := func(op uint32, node uint64, parts ...any) unix.Errno { _, e := c.call(op, node, parts...); return e }
	for what, errno := range map[string]unix.Errno{
		"chmod":        c.setattr(file, setMode, 0, 0o777),
		"chown":        c.setattr(file, setUID, 0, 0),
		"truncate":     c.setattr(file, setSize, 0, 0),
		"utimens":      c.setattr(file, setAtimeNow|setMtimeNow, 0, 0),
		"OPEN RDWR":    func() unix.Errno { _, e := c.tryOpen(file, unix.O_RDWR); return e }(),
		"OPEN WRONLY":  func() unix.Errno { _, e := c.tryOpen(one, unix.O_WRONLY); return e }(),
		"OPEN O_TRUNC": func() unix.Errno { _, e := c.tryOpen(file, unix.O_RDONLY|unix.O_TRUNC); return e }(),
		"OPEN 3":       func() unix.Errno { _, e := c.tryOpen(file, unix.O_ACCMODE); return e }(),
		"WRITE":        c.write(file, fh, 0, "bad", 0),
		"WRITE one":    c.write(one, oh, 0, "bad", 0),
		"FALLOCATE":    call(opFallocate, file, fh, uint64(0), uint64(9999), uint32(0), uint32(0)),
		"SETXATTR":     call(opSetxattr, file, uint32(1), uint32(0), "user.x", []byte("1")),
		"REMOVEXATTR":  call(opRemovexattr, file, "user.x"),
		"TMPFILE":      call(opTmpfile, dir, u32(unix.O_RDWR), u32(0o600), uint64(0), "/"),
		"ACCESS":       call(opAccess, file, u32(unix.W_OK), uint32(0)),
	} {
		c.want(what, errno, unix.EROFS)
	}
	c.want("COPY_FILE_RANGE", call(opCopyFileRange, rwFile, rwh, uint64(0), file, fh, uint64(0), uint64(4), uint64(0)), unix.EBADF)
	c.want("LINK to rw", call(opLink, rw, file, "linked"), unix.EXDEV)
	c.want("RENAME to rw", call(opRename, dir, rw, "file", "moved"), unix.EROFS)
	c.want("RENAME to ro", call(opRename, rw, dir, "file", "moved"), unix.EXDEV)
	c.want("RENAME2 exchange", call(opRename2, rw, dir, uint32(renameExchange), uint32(0), "file", "file"), unix.EXDEV)
	c.want("FSYNCDIR", call(opFsyncdir, sub, dh, uint32(0), uint32(0)), 0)
	if got, errno := c.read(file, fh, 0, 100); got != "file" || errno != 0 {
		t.Error("READ:", got, errno)
	}
	if after := snapshot(t, filepath.Join(top, "ro")); after != before {
		t.Errorf("changed:\n%s\nwas:\n%s", after, before)
	}
}

func TestForeignAttributesDontExist(t *testing.T) {
	top := tree(t, map[string]string{"in/file": "file"})
	path := filepath.Join(top, "in/file")
	if err := unix.Setxattr(path, "user.mine", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	_ = unix.Setxattr(path, "trusted.secret", []byte("1"), 0)
	c := newClient(t, Options{}, map[string]string{"in": filepath.Join(top, "in")})
	file := c.lookup("in", "file")
	for _, name := range []string{"trusted.secret", "trusted.overlay.opaque", "security.selinux", "security.ima", "security.evm", "security.capability2", "system.nfs4_acl", "user", "", "../x", strings.Repeat("u", 300)} {
		for what, parts := range map[uint32][]any{opSetxattr: {uint32(1), uint32(0), name, []byte("1")}, opGetxattr: {uint32(100), uint32(0), name}, opRemovexattr: {name}} {
			_, errno := c.call(what, file, parts...)
			c.want("attribute "+name, errno, unix.EOPNOTSUPP, unix.ERANGE, unix.EIO)
		}
	}
	list, errno := c.call(opListxattr, file, uint32(1000), uint32(0))
	if string(list) != "user.mine\x00" || errno != 0 {
		t.Errorf("LISTXATTR: %q %v", list, errno)
	}
}

func TestRemovedExportIsGone(t *testing.T) {
	top := tree(t, map[string]string{"in/file": "file", "in/dir/x": "x"})
	c := newClient(t, Options{Locks: true}, map[string]string{"in": filepath.Join(top, "in")})
	dir, file := c.lookup("in"), c.lookup("in", "file")
	fh := c.open(file, unix.O_RDWR)
	dh := c.open(dir, unix.O_DIRECTORY)
	if err := os.RemoveAll(filepath.Join(top, "in/dir")); err != nil {
		t.Fatal(err)
	}
	if err := c.s.RemoveExport("in"); err != nil {
		t.Fatal(err)
	}
	if n := c.s.host.fds.live.Load(); n != 0 {
		t.Errorf("%d descriptors are left", n)
	}
	_, errno := c.call(opLookup, rootID, "in")
	c.want("LOOKUP", errno, unix.ENOENT)
	_, errno = c.call(opLookup, dir, "file")
	c.want("LOOKUP below", errno, unix.ESTALE)
	c.want("WRITE", c.write(file, fh, 0, "x", 0), unix.ESTALE, unix.EBADF)
	_, errno = c.call(opReaddir, dir, dh, uint64(0), uint32(4096), uint32(0), uint64(0), uint64(0))
	c.want("READDIR", errno, unix.ESTALE)
	c.export("in", filepath.Join(top, "in"), Policy{ReadOnly: true})
	if again := c.lookup("in", "file"); again == file {
		t.Error("a node id was used again")
	}
	if err := c.s.RemoveExport("none"); err == nil {
		t.Error("removed an export that is not there")
	}
}

func TestMovedExportIsFollowed(t *testing.T) {
	c, top, dir := walled(t)
	if err := os.Rename(filepath.Join(top, "in"), filepath.Join(top, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("out", filepath.Join(top, "in")); err != nil {
		t.Fatal(err)
	}
	c.lookup("in", "file")
	if _, errno := c.call(opLookup, dir, "secret"); errno != unix.ENOENT {
		t.Error("LOOKUP secret:", errno)
	}
}

// An export that holds a mount of the kernel's does not hand it out: through
// /proc a guest would reach into the file server's own memory.
func TestKernelFileSystemsInAnExport(t *testing.T) {
	top := tree(t, map[string]string{"proc/x": "covered", "tmp/x": "covered", "file": "file"})
	for dir, fs := range map[string]string{"proc": "proc", "tmp": "tmpfs"} {
		target := filepath.Join(top, dir)
		if err := unix.Mount(fs, target, fs, 0, ""); err != nil {
			t.Skipf("needs the right to mount: %v", err)
		}
		t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
	}
	c := newClient(t, Options{}, map[string]string{"x": top})
	dir := c.lookup("x")
	if _, errno := c.call(opLookup, dir, "proc"); errno != unix.EACCES {
		t.Errorf("proc: %v", errno)
	}
	for _, name := range []string{"tmp", "file"} {
		if _, errno := c.call(opLookup, dir, name); errno != 0 {
			t.Errorf("%s: %v", name, errno)
		}
	}
}

// TestUnmountedExport takes the mount of an export away: what is below it on
// the host does not come to light.
func TestUnmountedExport(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	top := tree(t, map[string]string{"in/secret": "covered"})
	in := filepath.Join(top, "in")
	if err := unix.Mount("tmpfs", in, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(in, unix.MNT_DETACH)
	if err := os.WriteFile(filepath.Join(in, "file"), []byte("file"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, Options{}, map[string]string{"in": in})
	dir, file := c.lookup("in"), c.lookup("in", "file")
	if err := unix.Unmount(in, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"secret", "..", "in"} {
		if _, errno := c.call(opLookup, dir, name); errno == 0 {
			t.Errorf("LOOKUP %s worked", name)
		}
	}
	if got, errno := c.read(file, c.open(file, unix.O_RDONLY), 0, 100); got != "file" || errno != 0 {
		t.Errorf("READ: %q %v", got, errno)
	}
	if err := c.s.RemoveExport("in"); err != nil {
		t.Error(err)
	}
}

// TestNamesEndAtNUL sends names with more behind their end.
func TestNamesEndAtNUL(t *testing.T) {
	for op, send := range named {
		c, top, dir := walled(t) // anew: some of them rename the file
		secret := snapshot(t, filepath.Join(top, "secret"))
		file, below := c.lookup("in", "file"), c.lookup("in", "sub", "file")
		_ = send(c, dir, file, "new\x00/../../secret")
		_ = send(c, dir, below, "..\x00new")
		if got := snapshot(t, filepath.Join(top, "secret")); got != secret {
			t.Errorf("%s changed the outside: %s", op, got)
		}
		if names, err := filepath.Glob(filepath.Join(top, "*")); err != nil || len(names) != 3 {
			t.Error(op, names, err)
		}
	}
}

// TestEverythingAtOnce lets guest and host do what they can at the same time:
// no descriptor may be left, and none be another's.
func TestEverythingAtOnce(t *testing.T) {
	top := tree(t, map[string]string{"in/file": "file", "in/d/x": "x", "in/link": "-> ..", "other/file": "other", "secret": "s"})
	c := newClient(t, Options{Locks: true, CachedDescriptors: 2}, map[string]string{"in": filepath.Join(top, "in")})
	secret := snapshot(t, filepath.Join(top, "secret"))
	var stop atomic.Bool
	var wg sync.WaitGroup
	busy := func(f func(i int)) {
		wg.Go(func() {
			for i := 0; !stop.Load(); i++ {
				f(i)
			}
		})
	}
	for range 4 {
		busy(func(i int) { c.rummage(i) })
	}
	busy(func(int) {
		_ = unix.Renameat2(unix.AT_FDCWD, filepath.Join(top, "in/d"), unix.AT_FDCWD, filepath.Join(top, "in/link"), unix.RENAME_EXCHANGE)
	})
	busy(func(i int) {
		name := []string{"in", "other"}[i%2]
		if err := c.s.RemoveExport(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
		f, err := os.Open(filepath.Join(top, name))
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		if err := c.s.AddExport(name, f, Policy{ReadOnly: i%3 == 0}); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Millisecond)
	})
	time.Sleep(time.Second)
	stop.Store(true)
	wg.Wait()
	if got := snapshot(t, filepath.Join(top, "secret")); got != secret {
		t.Error("changed:", got)
	}
}

// rummage walks into an export and does something there.
func (c *client) rummage(i int) {
	node := uint64(rootID)
	for _, name := range [][]string{{"in", "file"}, {"in", "d", "x"}, {"in", "link", "secret"}, {"other", "file"}, {"in", "made"}}[i%5] {
		for _, send := range named {
			if node != rootID && i%7 == 0 {
				_ = send(c, node, node, "made")
			}
		}
		b, errno := c.call(opLookup, node, name)
		if errno != 0 {
			return
		}
		defer c.call(opForget, binary.LittleEndian.Uint64(b), uint64(1+i%2))
		node = binary.LittleEndian.Uint64(b)
	}
	fh, errno := c.tryOpen(node, []int{unix.O_RDWR, unix.O_RDONLY, unix.O_DIRECTORY}[i%3])
	if errno != 0 {
		return
	}
	if got, errno := c.read(node, fh, 0, 100); errno == 0 && got == "s" {
		c.t.Error("the secret was read")
	}
	_ = c.write(node, fh, uint64(i%100), "written", writeKillPriv)
	_, _ = c.call(opReaddirplus, node, fh, uint64(0), u32(4096), make([]byte, 20))
	if i%2 == 0 {
		_, _ = c.call(opRelease, node, fh, uint64(0), uint64(0))
	}
}
