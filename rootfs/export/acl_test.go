package export

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// groupWrites is the ACL u::rwx,g::rwx,o::r-x (linux/posix_acl_xattr.h).
func groupWrites(t *testing.T) []byte {
	t.Helper()
	acl, err := hex.DecodeString("02000000" + "01000700ffffffff" + "04000700ffffffff" + "20000500ffffffff")
	if err != nil {
		t.Fatal(err)
	}
	return acl
}

func TestDefaultACLTakesThePlaceOfTheUmask(t *testing.T) {
	top := tree(t, map[string]string{"in/plain/x": "", "in/acl/x": ""})
	c := newClient(t, Options{}, map[string]string{"in": filepath.Join(top, "in")})
	acl := groupWrites(t)
	if _, errno := c.call(opSetxattr, c.lookup("in", "acl"), u32(len(acl)), uint32(0), aclDefault, acl); errno != 0 {
		t.Fatal(errno)
	}
	for dir, want := range map[string]os.FileMode{"plain": 0o755, "acl": 0o775} {
		if _, errno := c.call(opMkdir, c.lookup("in", dir), uint32(0o777), uint32(0o022), "new"); errno != 0 {
			t.Fatal(errno)
		}
		st, err := os.Stat(filepath.Join(top, "in", dir, "new"))
		if err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v %v, want %v", dir, st.Mode(), err, want)
		}
	}
	if _, errno := c.call(opGetxattr, c.lookup("in", "plain"), uint32(100), uint32(0), aclAccess); errno != unix.ENODATA {
		t.Error("no ACL:", errno)
	}
	if _, errno := c.call(opGetxattr, rootID, uint32(100), uint32(0), aclAccess); errno != unix.ENODATA {
		t.Error("no ACL of the root:", errno)
	}
}

func TestRenameLeavesAWhiteout(t *testing.T) {
	top := tree(t, map[string]string{"in/file": "text"})
	c := newClient(t, Options{}, map[string]string{"in": filepath.Join(top, "in")})
	dir := c.lookup("in")
	if _, errno := c.call(opRename2, dir, dir, uint32(renameWhiteout), uint32(0), "file", "moved"); errno != 0 {
		t.Fatal(errno)
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(top, "in/file"), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
		t.Errorf("%v %o %x", err, st.Mode, st.Rdev)
	}
	if text, err := os.ReadFile(filepath.Join(top, "in/moved")); string(text) != "text" {
		t.Error(string(text), err)
	}
}
