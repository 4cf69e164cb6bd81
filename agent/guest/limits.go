package guest

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// maxFiles is how many files a process may open: what systemd gives as the
// hard limit. The kernel gives PID 1 only 4096.
const maxFiles = 512 << 10

// RaiseLimits raises what the agent and every container after it inherit.
func RaiseLimits() error {
	limit := &unix.Rlimit{Cur: maxFiles, Max: maxFiles}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, limit); err != nil {
		return fmt.Errorf("raise limit on open files: %w", err)
	}
	return nil
}
