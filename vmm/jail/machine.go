package jail

import (
	"slices"

	"golang.org/x/sys/unix"
)

// machineRules are those of the VM process. The first are those with conditions, of
// which KVM_RUN is the one that is in a hurry.
func machineRules() []rule {
	return slices.Concat(machineConditional(), runtimeRules(), unconditional(runtimeCalls, machineCalls))
}

// machineCalls are what the VM process does besides, with any arguments.
var machineCalls = []uint32{
	// Descriptors: rings' eventfds, sockets of the control connection and of
	// vsock streams, taps, disks, files.
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_PREAD64, unix.SYS_PWRITE64, unix.SYS_PREADV, unix.SYS_PWRITEV,
	unix.SYS_PREADV2, unix.SYS_PWRITEV2, unix.SYS_CLOSE, unix.SYS_EVENTFD2,
	unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_WAIT, unix.SYS_PPOLL,
	unix.SYS_ACCEPT4, unix.SYS_RECVMSG, unix.SYS_SENDMSG, unix.SYS_SHUTDOWN, unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME, unix.SYS_GETSOCKOPT,
	unix.SYS_SETSOCKOPT,
	// Files of the exports. Names lead nowhere but below descriptors.
	unix.SYS_OPENAT, unix.SYS_NEWFSTATAT, unix.SYS_FSTAT, unix.SYS_STATX, unix.SYS_FSTATFS, unix.SYS_LSEEK, unix.SYS_GETDENTS64, unix.SYS_READLINKAT,
	unix.SYS_NAME_TO_HANDLE_AT,
	unix.SYS_MKDIRAT, unix.SYS_MKNODAT, unix.SYS_LINKAT, unix.SYS_SYMLINKAT, unix.SYS_UNLINKAT, unix.SYS_RENAMEAT2, unix.SYS_FCHOWNAT,
	unix.SYS_FCHMODAT, unix.SYS_UTIMENSAT, unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE,
	unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_SYNCFS, unix.SYS_COPY_FILE_RANGE, unix.SYS_FLOCK, unix.SYS_FGETXATTR, unix.SYS_FSETXATTR,
	unix.SYS_FLISTXATTR, unix.SYS_FREMOVEXATTR,
	// The file server acts as the guest's process, a thread at a time.
	unix.SYS_SETFSUID, unix.SYS_SETFSGID, unix.SYS_CAPGET, unix.SYS_CAPSET, unix.SYS_GETEUID, unix.SYS_GETEGID,
	// The end of QEMU.
	unix.SYS_WAIT4, unix.SYS_WAITID, unix.SYS_PIDFD_SEND_SIGNAL,
}

// Requests of <linux/kvm.h> that are made while the guest runs.
const (
	kvmIRQLine   = 0x4008ae61
	kvmIRQFD     = 0x4020ae76
	kvmIOEventFD = 0x4040ae79
	kvmRun       = 0xae80
	kvmGetRegs   = 0x8090ae81
	kvmGetSregs  = 0x8138ae83
)

// machineConditional are the calls that the VM process makes with some arguments only.
func machineConditional() []rule {
	return []rule{
		{unix.SYS_IOCTL, anyOf(1,
			kvmRun, kvmIRQLine, kvmIRQFD, kvmIOEventFD,
			kvmGetRegs, kvmGetSregs, // of a processor that failed, for its error
			unix.TUNSETVNETHDRSZ, unix.TUNSETOFFLOAD, unix.TUNSETQUEUE,
			unix.FS_IOC_GETFLAGS, unix.FS_IOC_SETFLAGS, // chattr(1) in the guest
		)},
		{unix.SYS_FCNTL, anyOf(1,
			unix.F_GETFD, unix.F_SETFD, unix.F_GETFL, unix.F_SETFL, unix.F_DUPFD_CLOEXEC, unix.F_GET_SEALS,
			unix.F_OFD_GETLK, unix.F_OFD_SETLK,
		)},
		// The file server is told of changes to inodes that it has open, and is in
		// the way of none.
		{unix.SYS_FANOTIFY_INIT, anyOf(0, unix.FAN_CLASS_NOTIF|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK|unix.FAN_REPORT_FID|unix.FAN_REPORT_DFID_NAME)},
		{unix.SYS_FANOTIFY_MARK, anyOf(1, unix.FAN_MARK_ADD, unix.FAN_MARK_REMOVE)},
	}
}
