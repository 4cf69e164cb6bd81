package e2e

import (
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// A profile that is older than what libcontainer calls after it has set it.
func TestOldSeccompProfile(t *testing.T) {
	s := newSite(t)
	b := s.bundle(sh("echo started; mkdir /d || echo refused"), func(spec *specs.Spec) {
		spec.Process.NoNewPrivileges = false
		spec.Linux.Seccomp = &specs.LinuxSeccomp{
			DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86_64},
			Syscalls: []specs.LinuxSyscall{{Action: specs.ActAllow, Names: strings.Fields(`access arch_prctl bind brk capget capset chdir clone clone3
				close dup dup2 dup3 epoll_create1 epoll_ctl epoll_pwait eventfd2 execve exit exit_group fchdir fchown fcntl fstat futex getcwd
				getdents64 getegid geteuid getgid getpid getppid getrandom gettid getuid ioctl lseek lstat madvise mmap mprotect munmap nanosleep
				open openat pipe pipe2 poll prctl pread64 prlimit64 read readlink readlinkat rseq rt_sigaction rt_sigprocmask rt_sigreturn
				sched_getaffinity sched_yield seccomp set_robust_list set_tid_address setgid setgroups setpgid setresgid setresuid setsid
				setuid sigaltstack socket stat tgkill umask uname vfork wait4 write writev`)}},
		}
	})
	if got := s.output(b); got != "started\nrefused\n" {
		t.Errorf("%q", got)
	}
}
