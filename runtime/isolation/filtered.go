package isolation

import (
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// ExplainFilter adds to how process pid ended, as [exec.Cmd.Wait] says, what the kernel's log says of it, if
// that was for a system call that its jail's filter does not allow.
func ExplainFilter(pid int, exit error) error {
	var e *exec.ExitError
	if !errors.As(exit, &e) {
		return exit
	}
	status, ok := e.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() || status.Signal() != unix.SIGSYS {
		return exit
	}
	call, known := stoppedCall(pid)
	if !known {
		return fmt.Errorf("%w: the jail's filter stopped a system call; a kernel with auditing logs which one, as type=1326", exit)
	}
	return fmt.Errorf("%w: the jail's filter stopped system call %d", exit, call)
}

// stopped is what the kernel logs of a process that a filter kills: AUDIT_SECCOMP
// of linux/audit.h, with the number of the call.
var stopped = regexp.MustCompile(`type=1326 .* pid=(\d+) .* syscall=(\d+)`)

// stoppedCall looks for process pid in the kernel's log, newest last. Not everyone
// may read it, and not every kernel writes there.
func stoppedCall(pid int) (call int, known bool) {
	// With O_NONBLOCK, a read at the end of the log fails.
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, false
	}
	defer unix.Close(fd)
	record := make([]byte, 8<<10)
	for {
		n, err := unix.Read(fd, record)
		if err == unix.EPIPE {
			continue // overwritten before it was read
		}
		if err != nil || n <= 0 {
			return call, known
		}
		if m := stopped.FindSubmatch(record[:n]); m != nil && string(m[1]) == strconv.Itoa(pid) {
			call, err = strconv.Atoi(string(m[2]))
			known = err == nil
		}
	}
}
