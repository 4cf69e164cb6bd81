package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// rootfs is a container's root directory, bind mounted to a place of its own.
//
// Setting up a container looks paths below its root up some hundred times. In
// the share from the host each of them would ask the host again whether the
// export is still there; below a mount of its own none does.
type rootfs string

// mountRoot mounts the spec's root in dir under the name id, and makes the spec
// say so, also where mounts bind something in the root.
func mountRoot(dir, id string, spec *specs.Spec) (rootfs, error) {
	if spec.Root == nil || spec.Root.Path == "" {
		return "", fail(ErrInvalid, "root must be specified")
	}
	target := filepath.Join(dir, id)
	if err := os.MkdirAll(target, 0o711); err != nil {
		return "", fmt.Errorf("make mount point: %w", err)
	}
	if err := unix.Mount(spec.Root.Path, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		os.Remove(target)
		return "", fmt.Errorf("mount root file system %s: %w", spec.Root.Path, err)
	}
	for i := range spec.Mounts {
		m := &spec.Mounts[i]
		if rest, ok := strings.CutPrefix(m.Source, spec.Root.Path+"/"); ok {
			m.Source = target + "/" + rest
		}
	}
	spec.Root.Path = target
	return rootfs(target), nil
}

// unmount takes the mount away; what still uses it keeps it alive.
func (r rootfs) unmount() error {
	if r == "" {
		return nil
	}
	err := unix.Unmount(string(r), unix.MNT_DETACH)
	if err = errors.Join(err, os.Remove(string(r))); err != nil {
		return fmt.Errorf("unmount root file system: %w", err)
	}
	return nil
}
