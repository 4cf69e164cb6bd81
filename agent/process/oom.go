package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/cgroups/fscommon"
	"golang.org/x/sys/unix"
)

// cgroupRoot is where the guest's cgroups are.
const cgroupRoot = "/sys/fs/cgroup"

// Kills waits until the kernel has killed more than known processes of a
// container for want of memory, or none of its processes is left, and returns
// how many it has killed.
func (e *Engine) Kills(ctx context.Context, id string, known uint64) (uint64, error) {
	if _, err := e.container(id); err != nil {
		return 0, err
	}
	return awaitKills(ctx, filepath.Join(cgroupRoot, id), known)
}

// awaitKills does so with the cgroup dir.
func awaitKills(ctx context.Context, dir string, known uint64) (kills uint64, err error) {
	changes, err := watchFiles(filepath.Join(dir, "memory.events"), filepath.Join(dir, "cgroup.events"))
	if err != nil {
		return 0, err
	}
	defer changes.Close()
	stop := context.AfterFunc(ctx, func() { changes.Close() })
	defer stop()
	for {
		kills, err = fscommon.GetValueByKey(dir, "memory.events", "oom_kill")
		if err != nil {
			return 0, fmt.Errorf("read kills for want of memory: %w", err)
		}
		populated, err := fscommon.GetValueByKey(dir, "cgroup.events", "populated")
		if err != nil {
			return 0, fmt.Errorf("look for processes: %w", err)
		}
		if kills > known || populated == 0 {
			return kills, nil
		}
		var events [4096]byte
		if _, err := changes.Read(events[:]); err != nil {
			return 0, errors.Join(ctx.Err(), fmt.Errorf("wait for kills for want of memory: %w", err))
		}
	}
}

// watchFiles returns what can be read from when one of the files has changed.
func watchFiles(paths ...string) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", strings.Join(paths, ", "), err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	for _, path := range paths {
		if _, err := unix.InotifyAddWatch(fd, path, unix.IN_MODIFY); err != nil {
			f.Close()
			return nil, fmt.Errorf("watch %s: %w", path, err)
		}
	}
	return f, nil
}

// Kills is [Engine.Kills] with errors for the wire.
func (s Service) Kills(ctx context.Context, id string, known uint64) (uint64, error) {
	n, err := s.Engine.Kills(ctx, id, known)
	return n, statusOf(err)
}
