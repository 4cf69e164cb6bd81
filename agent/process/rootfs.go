package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// rootfs is a container's root directory, mounted at a place of its own, with the
// mounts that it is made of.
type rootfs struct {
	mounted []string // mount points, in order
	made    []string // directories
}

// mountRoot mounts c's root in the engine's directory under its id, and makes the
// spec say so, also where mounts bind something in the root. What was done is to
// be undone by unmount, also after an error.
//
// Without layers it is a bind mount of the spec's. Setting up a container looks
// paths below its root up some hundred times. In the share from the host each of
// them would ask the host again whether the export is still there; below a mount
// of its own none does.
func (e *Engine) mountRoot(c *container, spec *specs.Spec, layers []*api.Mount) error {
	if spec.Root == nil || spec.Root.Path == "" {
		return fail(ErrInvalid, "root must be specified")
	}
	target := filepath.Join(e.roots, c.id)
	if err := c.root.mkdir(target); err != nil {
		return err
	}
	if len(layers) > 0 {
		if err := c.assemble(target, filepath.Join(e.layers, c.id), layers); err != nil {
			return fmt.Errorf("make root file system: %w", err)
		}
	} else if err := c.root.bind(spec.Root.Path, target); err != nil {
		return fmt.Errorf("mount root file system %s: %w", spec.Root.Path, err)
	}
	for i := range spec.Mounts {
		m := &spec.Mounts[i]
		if rest, ok := strings.CutPrefix(m.Source, spec.Root.Path+"/"); ok {
			m.Source = target + "/" + rest
		}
	}
	spec.Root.Path = target
	return nil
}

// findExports looks at the exports that are bound. The kernel mounts an export in
// the namespace of who looks first, and has files of its own for each mount: to be
// told of changes on the host, a container has to have those of the agent.
func findExports(spec *specs.Spec) {
	for i := range spec.Mounts {
		source := spec.Mounts[i].Source
		if !strings.HasPrefix(source, api.ExportsDir+"/") {
			continue
		}
		if fd, err := unix.Open(source, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
			unix.Close(fd)
		}
	}
}

func (r *rootfs) mkdir(path string) error {
	if err := os.MkdirAll(path, 0o711); err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	r.made = append(r.made, path)
	return nil
}

// mountPoint makes a directory, or a file if fd is not a directory's.
func (r *rootfs) mountPoint(path string, fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("find what to mount: %w", err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return r.mkdir(path)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	r.made = append(r.made, path)
	return nil
}

func (r *rootfs) bind(source, target string) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	r.mounted = append(r.mounted, target)
	return nil
}

// unmount takes the mounts away; what still uses them keeps them alive.
func (r *rootfs) unmount() (err error) {
	for _, path := range slices.Backward(r.mounted) {
		if e := unix.Unmount(path, unix.MNT_DETACH); e != nil {
			err = errors.Join(err, fmt.Errorf("unmount %s: %w", path, e))
		}
	}
	for _, path := range slices.Backward(r.made) {
		err = errors.Join(err, os.Remove(path))
	}
	if err != nil {
		return fmt.Errorf("unmount root file system: %w", err)
	}
	r.mounted, r.made = nil, nil
	return nil
}
