package process

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// sharedMemory is where the guest has its POSIX shared memory.
const sharedMemory = "/dev/shm"

// sizeSharedMemory gives the guest's own shared memory the size that a bind
// mount of it asks for: all containers of a pod have the same one.
func sizeSharedMemory(spec *specs.Spec) error {
	sizes := func(o string) bool { return strings.HasPrefix(o, "size=") }
	for i := range spec.Mounts {
		m := &spec.Mounts[i]
		at := slices.IndexFunc(m.Options, sizes)
		if m.Source != sharedMemory || m.Type != "bind" || at < 0 {
			continue
		}
		if err := unix.Mount("", sharedMemory, "", unix.MS_REMOUNT|unix.MS_NOSUID|unix.MS_NODEV, m.Options[at]); err != nil {
			return fmt.Errorf("set %s of %s: %w", m.Options[at], sharedMemory, err)
		}
		m.Options = slices.DeleteFunc(m.Options, sizes)
	}
	return nil
}
