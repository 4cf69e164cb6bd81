package jail

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// setCapabilities gives every thread the capabilities of mask that it has, and
// no others.
func setCapabilities(mask uint32) error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData // the second holds those from 32 on
	if err := unix.Capget(&hdr, &caps[0]); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	left := caps[0].Permitted & mask
	caps = [2]unix.CapUserData{{Effective: left, Permitted: left}}
	err := onAllThreads(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&caps[0])), 0)
	runtime.KeepAlive(&hdr)
	runtime.KeepAlive(&caps)
	if err != nil {
		return fmt.Errorf("drop: %w", err)
	}
	return nil
}
