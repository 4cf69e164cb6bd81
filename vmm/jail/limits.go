package jail

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// setLimits bounds what a cgroup does not. The machine's cgroup also limits
// threads, the only thing that the filter lets the process start.
func setLimits() error {
	for _, l := range []struct {
		name     string
		resource int
	}{
		{"core", unix.RLIMIT_CORE},         // a core file has the guest's memory in it
		{"memlock", unix.RLIMIT_MEMLOCK},   // nothing is locked
		{"msgqueue", unix.RLIMIT_MSGQUEUE}, // nor queued
	} {
		if err := unix.Setrlimit(l.resource, &unix.Rlimit{}); err != nil {
			return fmt.Errorf("set %s to 0: %w", l.name, err)
		}
	}
	// The file server has raised it as far as it goes.
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("read nofile: %w", err)
	}
	files.Max = files.Cur
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("keep nofile at %d: %w", files.Cur, err)
	}
	return nil
}
