// Package isolation starts processes in namespaces of their own, which their jails are
// built of (package jail).
package isolation

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm/control"
)

// Start starts a process that goes to jail, in [control.Namespaces] and those that more
// flags of clone(2) say. Who has no rights over namespaces has them in a user namespace,
// where the process is the same user and nobody else exists. Where the host refuses
// namespaces the error says what to do.
func Start(cmd *exec.Cmd, more uintptr) error {
	cmd.SysProcAttr = attributes(more)
	err := withSlack(cmd.Start)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%w: its jail needs new namespaces: run as root with CAP_SYS_ADMIN, or allow user namespaces (user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)", err)
	}
	return err
}

func attributes(more uintptr) *syscall.SysProcAttr {
	// A session of its own is not hit by the terminal's signals.
	a := &syscall.SysProcAttr{Setsid: true, Cloneflags: control.Namespaces | more}
	if !mayUnshare() {
		uid, gid := os.Geteuid(), os.Getegid()
		a.Cloneflags |= unix.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		// For the mounts of the jail, which drops it.
		a.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
	}
	return a
}

// mayUnshare tells whether this process has CAP_SYS_ADMIN.
func mayUnshare() bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	return unix.Capget(&hdr, &caps[0]) == nil && caps[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}
