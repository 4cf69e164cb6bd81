package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// useMemory makes the file systems in memory that mounts of spec name, and the
// directories in them, unless they are there, and has the mounts bind these. The host
// creates the containers of a pod one after the other.
func (e *Engine) useMemory(c *container, spec *specs.Spec) error {
	for i := range spec.Mounts {
		m := &spec.Mounts[i]
		place, ok := strings.CutPrefix(m.Source, api.MemoryDir+"/")
		if !ok {
			continue
		}
		how, err := api.TakeMemory(m)
		if err != nil {
			return err
		}
		name, dir, _ := strings.Cut(place, "/")
		if err := makeMemory(name, how); err != nil {
			return fmt.Errorf("make file system in memory %s: %w", name, err)
		}
		target := filepath.Join(e.memory, fmt.Sprintf("%s-%d", c.id, i))
		if err := c.bindMemory(filepath.Join(api.MemoryDir, name), dir, how.Dir, target); err != nil {
			return fmt.Errorf("find /%s in file system in memory %s: %w", dir, name, err)
		}
		m.Source = target
	}
	return nil
}

// makeMemory mounts one, unless it is there.
func makeMemory(name string, how api.Memory) error {
	at := filepath.Join(api.MemoryDir, name)
	if err := os.MkdirAll(api.MemoryDir, 0o711); err != nil {
		return err
	}
	if err := os.Mkdir(at, 0o711); errors.Is(err, os.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	data := fmt.Sprintf("size=%d,mode=%o,uid=%d,gid=%d", how.Size, how.Root.Mode, how.Root.UID, how.Root.GID)
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, data); err != nil {
		return errors.Join(err, os.Remove(at))
	}
	return nil
}

// bindMemory mounts dir of the file system at root, a directory that it makes if
// nothing is there. Containers write there: no symbolic link is followed.
func (c *container) bindMemory(root, dir string, owner api.Owner, target string) error {
	at, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { unix.Close(at) }()
	for _, name := range strings.FieldsFunc(dir, func(r rune) bool { return r == '/' }) {
		below, err := step(at, name, owner)
		if err != nil {
			return err
		}
		unix.Close(at)
		at = below
	}
	if err := c.root.mountPoint(target, at); err != nil {
		return err
	}
	return c.root.bind(fmt.Sprintf("/proc/self/fd/%d", at), target)
}

// step opens what is called name in the directory at, a new directory if nothing is.
func step(at int, name string, owner api.Owner) (below int, err error) {
	made := unix.Mkdirat(at, name, 0o700)
	if made != nil && !errors.Is(made, unix.EEXIST) {
		return -1, made
	}
	flags := uint64(unix.O_PATH | unix.O_CLOEXEC)
	if made == nil {
		flags = unix.O_DIRECTORY | unix.O_CLOEXEC
	}
	below, err = unix.Openat2(at, name, &unix.OpenHow{Flags: flags, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH})
	if err != nil || made != nil {
		return below, err
	}
	if err := errors.Join(unix.Fchown(below, int(owner.UID), int(owner.GID)), unix.Fchmod(below, owner.Mode)); err != nil {
		unix.Close(below)
		return -1, err
	}
	return below, nil
}
