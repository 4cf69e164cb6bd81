package guest

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// clockTolerance is how far the guest's clock may be off without being set. A
// call takes that long on a slow machine.
const clockTolerance = 5 * time.Millisecond

// Boottime is CLOCK_BOOTTIME, the time since the machine was switched on.
func Boottime() time.Duration {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // cannot fail with a valid clock
	return time.Duration(ts.Nano())
}

// setClock sets the guest's clock unless it is right already.
func setClock(now time.Time) error {
	if off := time.Until(now).Abs(); off <= clockTolerance {
		return nil
	}
	ts := unix.NsecToTimespec(now.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("set clock: %w", err)
	}
	return nil
}
