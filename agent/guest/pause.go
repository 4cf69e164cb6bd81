package guest

import (
	"errors"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// Pause is a program that does nothing but hold its namespaces and collect the
// orphans of its pid namespace, until a signal asks it to end.
func Pause() {
	end, orphans := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(end, unix.SIGINT, unix.SIGTERM)
	signal.Notify(orphans, unix.SIGCHLD)
	for {
		select {
		case <-end:
			return
		case <-orphans:
			collect()
		}
	}
}

// collect waits for all children that have ended.
func collect() {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if pid <= 0 && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}
