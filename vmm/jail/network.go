package jail

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/rootfs/pivot"
)

// EnterNetwork closes the jail behind the process of a user-mode network, for good. It
// keeps the network namespace that it makes connections in, reads the files of the
// directories in visible, which it sees where they are, and what is mounted below them,
// and is nobody if it was root.
func (j *Jail) EnterNetwork(visible []string) error {
	return build([]wall{
		{ErrRoot, func() error { return enterRootOf(visible) }},
		{ErrLimits, setLimits},
		{ErrCapabilities, j.becomeNobody},
		{ErrCapabilities, func() error { return setCapabilities(0) }},
		{ErrFilter, func() error { return loadFilter(networkRules()) }},
	})
}

// nobody owns nothing.
const nobody = 65534

// becomeNobody gives root's user up. Where the process is alone there is no other.
func (j *Jail) becomeNobody() error {
	if j.alone || os.Geteuid() != 0 {
		return nil
	}
	if err := unix.Setgroups(nil); err != nil {
		return fmt.Errorf("leave groups: %w", err)
	}
	if err := unix.Setresgid(nobody, nobody, nobody); err != nil {
		return fmt.Errorf("become group %d: %w", nobody, err)
	}
	if err := unix.Setresuid(nobody, nobody, nobody); err != nil {
		return fmt.Errorf("become user %d: %w", nobody, err)
	}
	return nil
}

// enterRootOf makes a read-only directory the root that has nothing but some of the
// directories of the old one.
func enterRootOf(visible []string) error {
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("tmpfs", where, "tmpfs", flags, "size=64k,nr_inodes=64,mode=755"); err != nil {
		return fmt.Errorf("mount it: %w", err)
	}
	if err := unix.Chdir(where); err != nil {
		return fmt.Errorf("enter it: %w", err)
	}
	for _, dir := range topmost(visible) {
		if err := show(dir); err != nil {
			return fmt.Errorf("show %s there: %w", dir, err)
		}
	}
	if err := unix.Mount("", ".", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|flags, ""); err != nil {
		return fmt.Errorf("make it read-only: %w", err)
	}
	return pivot.Enter()
}

// show mounts a directory below the working directory, where it is below the root.
func show(dir string) error {
	place := strings.TrimPrefix(dir, "/")
	if err := os.MkdirAll(place, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(dir, place, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	err := unix.MountSetattr(unix.AT_FDCWD, place, unix.AT_RECURSIVE, &unix.MountAttr{
		Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC,
	})
	if errors.Is(err, unix.ENOSYS) {
		return nil // before Linux 5.12 only the filter lets nothing be written
	}
	return err
}

// topmost leaves out what is below another one.
func topmost(dirs []string) (top []string) {
	for _, dir := range slices.Sorted(slices.Values(dirs)) {
		below := func(other string) bool { return dir == other || strings.HasPrefix(dir, other+"/") }
		if filepath.IsAbs(dir) && !slices.ContainsFunc(top, below) {
			top = append(top, dir)
		}
	}
	return top
}

// networkRules are those of a user-mode network.
func networkRules() []rule {
	const writes = unix.O_ACCMODE | unix.O_CREAT | unix.O_TRUNC | unix.O_TMPFILE&^unix.O_DIRECTORY
	return slices.Concat([]rule{
		// Connections, datagrams and pings; raw sockets take a capability.
		{unix.SYS_SOCKET, anyOf(0, unix.AF_INET, unix.AF_INET6)},
		{unix.SYS_FCNTL, anyOf(1, unix.F_GETFD, unix.F_SETFD, unix.F_GETFL, unix.F_SETFL, unix.F_DUPFD_CLOEXEC)},
		// The host's name servers and names are read again when they change.
		{unix.SYS_OPENAT, []condition{{argument: 2, mask: writes, value: unix.O_RDONLY}}},
	}, runtimeRules(), unconditional(runtimeCalls, networkCalls))
}

// networkCalls are what it does besides the runtime's, with any arguments.
var networkCalls = []uint32{
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_PREAD64, unix.SYS_CLOSE, unix.SYS_NEWFSTATAT, unix.SYS_FSTAT, unix.SYS_LSEEK,
	unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EVENTFD2, unix.SYS_PPOLL,
	unix.SYS_BIND, unix.SYS_CONNECT, unix.SYS_ACCEPT4, unix.SYS_SHUTDOWN, unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME, unix.SYS_GETSOCKOPT, unix.SYS_SETSOCKOPT,
	unix.SYS_RECVFROM, unix.SYS_RECVMSG, unix.SYS_RECVMMSG, unix.SYS_SENDTO, unix.SYS_SENDMSG, unix.SYS_SENDMMSG,
	unix.SYS_UNAME, // of the resolver
}
