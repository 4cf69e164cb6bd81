package e2e

import (
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/tests/lab/labtest"
)

// oldProfile is older than what libcontainer calls after it has set it.
func oldProfile() *specs.LinuxSeccomp {
	return &specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86_64},
		Syscalls: []specs.LinuxSyscall{{Action: specs.ActAllow, Names: strings.Fields(`access arch_prctl bind brk capget capset chdir clone clone3
			close dup dup2 dup3 epoll_create1 epoll_ctl epoll_pwait eventfd2 execve exit exit_group fchdir fchown fcntl fstat futex getcwd
			getdents64 getegid geteuid getgid getpid getppid getrandom gettid getuid ioctl lseek lstat madvise mmap mprotect munmap nanosleep
			open openat pipe pipe2 poll prctl pread64 prlimit64 read readlink readlinkat rseq rt_sigaction rt_sigprocmask rt_sigreturn
			sched_getaffinity sched_yield seccomp set_robust_list set_tid_address setgid setgroups setpgid setresgid setresuid setsid
			setuid sigaltstack socket stat tgkill umask uname vfork wait4 write writev`)}},
	}
}

func TestOldSeccompProfile(t *testing.T) {
	s := newSite(t)
	b := s.bundle(sh("echo started; mkdir /d || echo refused"), func(spec *specs.Spec) {
		spec.Process.NoNewPrivileges = false
		spec.Linux.Seccomp = oldProfile()
		spec.Linux.Seccomp.Flags = []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow, "SECCOMP_FILTER_FLAG_TSYNC"}
	})
	if got := s.output(b); got != "started\nrefused\n" {
		t.Errorf("%q", got)
	}
}

// The limits are the program's, not those of what sets its filter up.
func TestSeccompWithLowLimits(t *testing.T) {
	labtest.SameOnBoth(t)
	s := newSite(t)
	for _, privileges := range []bool{false, true} {
		b := s.bundle(sh("ulimit -v; ulimit -d; ulimit -Hs"), func(spec *specs.Spec) {
			spec.Process.NoNewPrivileges = !privileges
			spec.Linux.Seccomp = oldProfile()
			spec.Process.Rlimits = []specs.POSIXRlimit{
				{Type: "RLIMIT_AS", Soft: 32 << 20, Hard: 64 << 20}, {Type: "RLIMIT_DATA", Soft: 1 << 20, Hard: 2 << 20},
				{Type: "RLIMIT_STACK", Soft: 1 << 20, Hard: 2 << 20},
			}
		})
		if got := s.output(b); got != "32768\n1024\n2048\n" {
			t.Errorf("%q", got)
		}
	}
}
