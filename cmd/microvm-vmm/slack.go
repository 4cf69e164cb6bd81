package main

import (
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// timerSlack is how late a timer of the file server may be, as for the VM process
// (package runtime/isolation): the Go runtime looks after its threads every 20 microseconds
// while some work, and each look costs more than many a request, most of all where the
// processor has other work. A thread that is about to take over a request of another's
// sleeps for as long, too, which is seldom and was not seen in any figure.
const timerSlack = time.Millisecond

// takeSlack starts the process again where its threads would have less: the runtime's
// own exist by now, and each has what its parent had. Without it all goes on, slower.
func takeSlack() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if hasSlack() {
		return
	}
	// Linux ignores it, without an error, for a thread of a real-time class.
	if unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(timerSlack), 0, 0, 0) == nil && hasSlack() {
		_ = unix.Exec("/proc/self/exe", os.Args, os.Environ())
	}
}

func hasSlack() bool {
	slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	return err == nil && slack >= int(timerSlack)
}
