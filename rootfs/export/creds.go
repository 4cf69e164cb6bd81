package export

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// credentials gives new files to the guest's process that makes them.
//
// The owner is set by making the file as that user (setfsuid(2), setfsgid(2))
// rather than by a chown after it: there is no moment in which the file has
// another owner, the group of a set-group-id directory is inherited as on a
// local file system, and quotas are charged to the right user. The switch is a
// matter of one thread, which therefore stays locked meanwhile, and it costs
// that thread the capabilities that belong to file access; they are raised
// again, as it is the guest's kernel that has checked permissions.
//
// A server without CAP_SETUID and CAP_SETGID makes files as itself.
type credentials struct {
	switchable bool
	uid, gid   uint32
	caps       [2]unix.CapUserData // of every thread
}

// Capability numbers (linux/capability.h) below 32.
const (
	capFsetid = 1 << unix.CAP_FSETID
	capIDs    = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID
)

// read takes note of what the process has.
func (cr *credentials) read() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&hdr, &cr.caps[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	cr.uid, cr.gid = uint32(unix.Geteuid()), uint32(unix.Getegid())
	cr.switchable = cr.caps[0].Effective&capIDs == capIDs
	return nil
}

// as runs make with the thread's file-system ids set to uid and gid. It fails
// with EPERM when the ids can't be had.
func (cr *credentials) as(uid, gid uint32, make func() error) error {
	if !cr.switchable || uid == cr.uid && gid == cr.gid {
		return make()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer cr.restore()
	if !setThreadIDs(uid, gid) {
		return unix.EPERM
	}
	if err := setThreadCaps(cr.caps); err != nil {
		return err
	}
	return make()
}

// restore gives a thread its own ids back. A thread that keeps a guest's ids
// must not serve anyone else, and there is no reason for the kernel to refuse.
func (cr *credentials) restore() {
	if !setThreadIDs(cr.uid, cr.gid) || setThreadCaps(cr.caps) != nil {
		panic("export: thread can't return to its own credentials")
	}
}

// setThreadIDs reports whether the thread has both ids now. The system calls
// have no error: asking for the invalid id -1 tells the present one.
func setThreadIDs(uid, gid uint32) bool {
	_, _ = unix.SetfsgidRetGid(int(int32(gid)))
	_, _ = unix.SetfsuidRetUid(int(int32(uid)))
	g, _ := unix.SetfsgidRetGid(-1)
	u, _ := unix.SetfsuidRetUid(-1)
	return uint32(u) == uid && uint32(g) == gid
}

func setThreadCaps(caps [2]unix.CapUserData) error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	return unix.Capset(&hdr, &caps[0])
}

// withoutFsetid runs change as a caller without CAP_FSETID, so that the host's
// kernel clears set-uid and set-gid bits by its own rules.
func (cr *credentials) withoutFsetid(change func() error) error {
	if cr.caps[0].Effective&capFsetid == 0 {
		return change()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	caps := cr.caps
	caps[0].Effective &^= capFsetid
	if err := setThreadCaps(caps); err != nil {
		return err
	}
	defer cr.restore()
	return change()
}
