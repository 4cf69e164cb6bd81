package jail

import (
	"fmt"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"golang.org/x/sys/unix"
)

// loadFilter puts the filter on every thread. It needs no_new_privs.
func loadFilter() error {
	err := seccomp.LoadFilter(seccomp.Filter{
		Flag: seccomp.FilterFlagTSync,
		Policy: seccomp.Policy{
			DefaultAction: seccomp.ActionKillProcess,
			Syscalls:      []seccomp.SyscallGroup{{Action: seccomp.ActionAllow, NamesWithCondtions: conditions(), Names: calls}},
		},
	})
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	return nil
}

// calls are allowed with any arguments.
var calls = []string{
	// Memory and threads of the Go runtime, and time.
	"munmap", "madvise", "futex", "nanosleep", "clock_nanosleep", "clock_gettime", "gettimeofday", "sched_yield", "sched_getaffinity",
	"rt_sigprocmask", "rt_sigreturn", "rt_sigaction", "sigaltstack", "restart_syscall", "gettid", "getpid", "exit", "exit_group", "getrandom",
	// Descriptors: rings' eventfds, sockets of the control connection and of
	// vsock streams, taps, disks, files.
	"read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "preadv2", "pwritev2", "close", "eventfd2",
	"epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_wait",
	"accept4", "recvmsg", "sendmsg", "shutdown", "getsockname", "getpeername", "getsockopt", "setsockopt",
	// Files of the exports. Names lead nowhere but below descriptors.
	"openat", "newfstatat", "fstat", "statx", "fstatfs", "lseek", "getdents64", "readlinkat", "name_to_handle_at",
	"mkdirat", "mknodat", "linkat", "symlinkat", "unlinkat", "renameat2", "fchownat", "fchmodat", "utimensat", "ftruncate", "fallocate",
	"fsync", "fdatasync", "syncfs", "copy_file_range", "flock", "fgetxattr", "fsetxattr", "flistxattr", "fremovexattr",
	// The file server acts as the guest's process, a thread at a time.
	"setfsuid", "setfsgid", "capget", "capset", "geteuid", "getegid",
	// The end of QEMU.
	"wait4", "waitid", "pidfd_send_signal",
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

// threadFlags are what the Go runtime starts a thread with.
const threadFlags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_SYSVSEM | unix.CLONE_THREAD | unix.CLONE_SETTLS

// prSetVMA names anonymous memory (linux/prctl.h).
const prSetVMA = 0x53564d41

// conditions are the calls that are allowed with some arguments only.
func conditions() (all []seccomp.NameWithConditions) {
	allow := func(name string, conditions ...seccomp.Condition) {
		all = append(all, seccomp.NameWithConditions{Name: name, Conditions: conditions})
	}
	equal := func(argument uint32, value uint64) seccomp.Condition {
		return seccomp.Condition{Argument: argument, Operation: seccomp.Equal, Value: value}
	}
	for _, request := range []uint64{
		kvmRun, kvmIRQLine, kvmIRQFD, kvmIOEventFD,
		kvmGetRegs, kvmGetSregs, // of a processor that failed, for its error
		unix.TUNSETVNETHDRSZ, unix.TUNSETOFFLOAD,
		unix.FS_IOC_GETFLAGS, unix.FS_IOC_SETFLAGS, // chattr(1) in the guest
	} {
		allow("ioctl", equal(1, request))
	}
	// No code but the program's.
	noExec := seccomp.Condition{Argument: 2, Operation: seccomp.BitsNotSet, Value: unix.PROT_EXEC}
	allow("mmap", noExec)
	allow("mprotect", noExec)
	// Threads of this process, and no process.
	allow("clone", equal(0, threadFlags))
	allow("tgkill", equal(0, 1)) // it is the first of its pid namespace
	for _, command := range []uint64{
		unix.F_GETFD, unix.F_SETFD, unix.F_GETFL, unix.F_SETFL, unix.F_DUPFD_CLOEXEC, unix.F_GET_SEALS,
		unix.F_OFD_GETLK, unix.F_OFD_SETLK,
	} {
		allow("fcntl", equal(1, command))
	}
	allow("prctl", equal(0, prSetVMA))
	// The file server is told of changes to inodes that it has open, and is in
	// the way of none.
	allow("fanotify_init", equal(0, unix.FAN_CLASS_NOTIF|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK|unix.FAN_REPORT_FID|unix.FAN_REPORT_DFID_NAME))
	for _, change := range []uint64{unix.FAN_MARK_ADD, unix.FAN_MARK_REMOVE} {
		allow("fanotify_mark", equal(1, change))
	}
	return all
}
