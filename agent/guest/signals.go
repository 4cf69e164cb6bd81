package guest

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// IgnoreSignals keeps a process in the guest from ending PID 1, and the machine
// with it, by a signal. They are caught rather than ignored, since containers
// would inherit that.
func IgnoreSignals() {
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2)
}
