package export

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Flags of linux/fs.h that a guest may not set, and one that it may.
const (
	immutableFlag  = 0x10
	appendFlag     = 0x20
	noDumpFlag     = 0x40
	casefoldFlag   = 0x40000000
	projectInherit = 0x20000000
)

// ioctl sends IOCTL with the four bytes of arg.
func (c *client) ioctl(node, fh uint64, cmd, arg uint32) (uint32, unix.Errno) {
	b, errno := c.call(opIoctl, node, fh, uint32(0), cmd, uint64(0), uint32(4), uint32(4), arg)
	if len(b) < ioctlOutSize+4 {
		return 0, errno
	}
	return binary.LittleEndian.Uint32(b[ioctlOutSize:]), errno
}

func TestInodeFlags(t *testing.T) {
	top := tree(t, map[string]string{"rw/file": "file", "ro/file": "file"})
	c := newClient(t, Options{}, map[string]string{"rw": filepath.Join(top, "rw")})
	c.export("ro", filepath.Join(top, "ro"), Policy{ReadOnly: true})
	host, err := os.Open(filepath.Join(top, "rw/file"))
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	was, err := unix.IoctlGetUint32(int(host.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		t.Skipf("the host's file system has no flags: %v", err)
	}
	file, other := c.lookup("rw", "file"), c.lookup("ro", "file")
	fh, oh := c.open(file, unix.O_RDONLY), c.open(other, unix.O_RDONLY)
	got, errno := c.ioctl(file, fh, unix.FS_IOC_GETFLAGS, 0)
	if got != was || errno != 0 {
		t.Errorf("flags %#x and %v, want %#x", got, errno, was)
	}
	_, errno = c.ioctl(file, fh, unix.FS_IOC_SETFLAGS, was|noDumpFlag)
	c.want("SETFLAGS", errno, 0)
	if now, err := unix.IoctlGetUint32(int(host.Fd()), unix.FS_IOC_GETFLAGS); now != was|noDumpFlag {
		t.Errorf("host has flags %#x, %v", now, err)
	}
	b, errno := c.call(opIoctl, file, fh, uint32(0), u32(getXattr), uint64(0), uint32(0), u32(fsxattrSize))
	if errno != 0 || len(b) != ioctlOutSize+fsxattrSize || binary.LittleEndian.Uint32(b[ioctlOutSize:]) != 0x80 /* FS_XFLAG_NODUMP */ {
		t.Errorf("FSGETXATTR: %v %v", b, errno)
	}
	for _, bad := range []uint32{immutableFlag, appendFlag, casefoldFlag, projectInherit, ^uint32(0)} {
		_, errno = c.ioctl(file, fh, unix.FS_IOC_SETFLAGS, was|bad)
		c.want("SETFLAGS of more", errno, unix.EPERM)
	}
	_, errno = c.ioctl(other, oh, unix.FS_IOC_SETFLAGS, was|noDumpFlag)
	c.want("SETFLAGS, read-only", errno, unix.EROFS)
	_, errno = c.ioctl(other, fh, unix.FS_IOC_GETFLAGS, 0)
	c.want("GETFLAGS by another's handle", errno, unix.EBADF)
	_, errno = c.call(opIoctl, file, fh, uint32(0), u32(unix.FS_IOC_SETFLAGS), uint64(0), uint32(4), uint32(0))
	c.want("SETFLAGS without them, which clears all", errno, 0, unix.EPERM)
	_, errno = c.call(opIoctl, file, fh, uint32(0), u32(unix.FS_IOC_GETFLAGS), uint64(0), uint32(0), uint32(0))
	c.want("GETFLAGS without room", errno, unix.EINVAL)
	for _, cmd := range []uint32{0, 0x5401 /* TCGETS */, unix.BLKGETSIZE64, 0xc0185879 /* FITRIM */, 0x40049409 /* FICLONE */, ^uint32(0)} {
		_, errno = c.ioctl(file, fh, cmd, 1)
		c.want("ioctl", errno, unix.ENOTTY)
	}
}
