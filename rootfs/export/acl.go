package export

import "golang.org/x/sys/unix"

// POSIX ACLs are extended attributes to the server: the guest's kernel checks
// access by them, and the host's kernel keeps them in step with the mode.
const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

func isACL(name string) bool { return name == aclAccess || name == aclDefault }

// noACL turns "there can't be an ACL" into "there is none", without which the
// guest's kernel would refuse all access to the file.
func noACL(name string, err error) error {
	if err == unix.EOPNOTSUPP && isACL(name) {
		return unix.ENODATA
	}
	return err
}

// masked applies the caller's umask to the mode of a file to be made in dir,
// unless dir has a default ACL, which takes its place. The guest's kernel
// leaves that to the server since only here both are known (FUSE_DONT_MASK).
func (s *Server) masked(dir *node, mode, umask uint32) uint32 {
	if !s.umasks.Load() || mode&umask&0o777 == 0 || s.hasDefaultACL(dir) {
		return mode
	}
	return mode &^ (umask & 0o777)
}

func (s *Server) hasDefaultACL(dir *node) bool {
	found := false
	_ = s.withXattrs(dir, func(fd int) error {
		n, err := unix.Fgetxattr(fd, aclDefault, nil)
		found = err == nil && n > 0
		return nil
	})
	return found
}
