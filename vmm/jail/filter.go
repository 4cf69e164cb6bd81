package jail

import (
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// loadFilter puts a filter on every thread. It needs no_new_privs.
func loadFilter(rules []rule) error {
	program, err := assemble(rules)
	if err != nil {
		return fmt.Errorf("assemble: %w", err)
	}
	return load(program)
}

// unconditional are rules that allow calls with any arguments.
func unconditional(lists ...[]uint32) (all []rule) {
	for _, number := range slices.Concat(lists...) {
		all = append(all, rule{number: number})
	}
	return all
}

// runtimeCalls are for memory and threads of the Go runtime, and time.
var runtimeCalls = []uint32{
	unix.SYS_MUNMAP, unix.SYS_MADVISE, unix.SYS_FUTEX, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_GETTIMEOFDAY,
	unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY,
	unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_RT_SIGACTION, unix.SYS_SIGALTSTACK, unix.SYS_RESTART_SYSCALL, unix.SYS_GETTID,
	unix.SYS_GETPID, unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_GETRANDOM,
}

// threadFlags are what the Go runtime starts a thread with.
const threadFlags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_SYSVSEM | unix.CLONE_THREAD | unix.CLONE_SETTLS

// prSetVMA names anonymous memory (linux/prctl.h).
const prSetVMA = 0x53564d41

// runtimeRules are those of the Go runtime's calls whose arguments are looked at.
func runtimeRules() []rule {
	noCode := condition{argument: 2, mask: unix.PROT_EXEC} // but the program's
	return []rule{
		{unix.SYS_MMAP, []condition{noCode}},
		{unix.SYS_MPROTECT, []condition{noCode}},
		// Threads of this process, and no process.
		{unix.SYS_CLONE, anyOf(0, threadFlags)},
		{unix.SYS_TGKILL, anyOf(0, uint32(os.Getpid()))},
		{unix.SYS_PRCTL, anyOf(0, prSetVMA)},
	}
}

// anyOf allows some values of an argument.
func anyOf(argument uint32, values ...uint32) (when []condition) {
	for _, v := range values {
		when = append(when, equal(argument, v))
	}
	return when
}
