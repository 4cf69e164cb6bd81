package isolation

import (
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// timerSlack is how late a timer of the process may be. While a guest runs, the
// Go runtime looks after its threads every 20 microseconds, for whom nothing there
// is in such a hurry; each look takes the processor from the guest, which costs
// most where the host is a virtual machine itself. QEMU sets its own.
const timerSlack = time.Millisecond

// withSlack starts a process that has timerSlack, which children inherit.
func withSlack(start func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err == nil {
		err = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(timerSlack), 0, 0, 0)
	}
	if err != nil {
		return fmt.Errorf("set timer slack: %w", err)
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(before), 0, 0, 0) }()
	return start()
}
