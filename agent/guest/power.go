package guest

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// syncTimeout bounds how long writing back may hold up the end.
const syncTimeout = 20 * time.Second

// Quiesce kills all other processes and writes everything back.
func Quiesce() {
	unix.Kill(-1, unix.SIGKILL) // nobody left to kill is fine
	done := make(chan struct{})
	go func() {
		defer close(done)
		unix.Sync()
		unix.Unmount(api.ExportsDir, unix.MNT_DETACH) // with the exports that were found below
	}()
	select {
	case <-done:
	case <-time.After(syncTimeout):
	}
}

// PowerOff switches the machine off. It returns only if that is impossible.
func PowerOff() error {
	err := writeExitPort()
	return errors.Join(err, unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART))
}

func writeExitPort() error {
	port, err := os.OpenFile("/dev/port", os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("power off: %w", err)
	}
	defer port.Close()
	if _, err := port.WriteAt([]byte{0}, api.ExitPort); err != nil {
		return fmt.Errorf("power off: %w", err)
	}
	return nil
}

// Fatal says on the console why the agent cannot go on, and powers the machine
// off.
func Fatal(err error) {
	fmt.Fprintln(os.Stderr, "microvm-agent:", err)
	// The error may have come before /dev was there.
	m := mounts[0]
	m.make()
	if err := PowerOff(); err != nil {
		fmt.Fprintln(os.Stderr, "microvm-agent:", err)
	}
	os.Exit(1) // panics the kernel, which resets the machine
}
