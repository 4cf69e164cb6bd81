package jail

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// The capabilities that stay, each for an operation that the guest's kernel has
// allowed and that the host's would refuse. All are below 32.
const kept = 1<<unix.CAP_CHOWN | // chown(2) by the guest's root
	1<<unix.CAP_DAC_OVERRIDE | // files of any user are opened, after the guest's check
	1<<unix.CAP_FOWNER | // chmod(2), utimensat(2), unlink(2) in sticky directories by the guest's root
	1<<unix.CAP_FSETID | // a set-group-id bit survives chmod(2)
	1<<unix.CAP_SETFCAP | // security.capability is set by the guest's root
	1<<unix.CAP_SETUID | // setfsuid(2): a new file belongs to who makes it
	1<<unix.CAP_SETGID // setfsgid(2), likewise

// keptForChild ends QEMU, which is another user's. There is nobody else in the
// pid namespace.
const keptForChild = 1 << unix.CAP_KILL

// keptForDevices is for mknod(2).
const keptForDevices = 1 << unix.CAP_MKNOD

// Of linux/securebits.h: root is a user like others to execve(2), for good.
const (
	secbitNoRoot       = 1 << 0
	secbitNoRootLocked = 1 << 1
)

// forbidPrivileges has no program that is started from here get any.
func forbidPrivileges() error {
	if err := onAllThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if err := onAllThreads(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	if os.Geteuid() != 0 {
		return nil
	}
	if err := onAllThreads(unix.SYS_PRCTL, unix.PR_SET_SECUREBITS, secbitNoRoot|secbitNoRootLocked, 0); err != nil {
		return fmt.Errorf("set securebits: %w", err)
	}
	return nil
}

// keeps are the capabilities that the process may keep if it has them.
func (j *Jail) keeps(c Config) uint32 {
	if j.alone {
		return 0 // it makes files as itself
	}
	keep := uint32(kept)
	if c.Child {
		keep |= keptForChild
	}
	if c.Devices {
		keep |= keptForDevices
	}
	return keep
}
